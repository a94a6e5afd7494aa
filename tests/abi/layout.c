/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Where every field of every public struct lies, for 64-bit and for 32-bit machines, and that no struct ends in padding: a field added later would land in
 * it, and a caller built before would hand over garbage there without its size telling. Compiled only; test_headers.py sees to it that no field is missing.
 */
#include <k3sup.h>

#define AT(type, field, offset64, offset32) \
	_Static_assert(offsetof(struct type, field) == (sizeof(void *) == 8 ? (offset64) : (offset32)), #type "." #field " moved")
#define END(type, last, size64, size32) \
	_Static_assert(sizeof(struct type) == (sizeof(void *) == 8 ? (size64) : (size32)), #type " has another size"); \
	_Static_assert(offsetof(struct type, last) + sizeof(((struct type *)0)->last) == sizeof(struct type), #type " ends in padding")

AT(k3sup_ctx_opts, struct_size, 0, 0);
AT(k3sup_ctx_opts, flags, 4, 4);
END(k3sup_ctx_opts, flags, 8, 8);

AT(k3sup_progress, struct_size, 0, 0);
AT(k3sup_progress, percent, 4, 4);
AT(k3sup_progress, done, 8, 8);
AT(k3sup_progress, total, 16, 16);
AT(k3sup_progress, downtime_ms, 24, 24);
AT(k3sup_progress, step, 32, 32);
AT(k3sup_progress, text, 40, 36);
END(k3sup_progress, text, 48, 40);

AT(k3sup_node_opts, struct_size, 0, 0);
AT(k3sup_node_opts, flags, 4, 4);
AT(k3sup_node_opts, root, 8, 8);
AT(k3sup_node_opts, proc, 16, 12);
AT(k3sup_node_opts, data_dir, 24, 16);
AT(k3sup_node_opts, k3s, 32, 20);
AT(k3sup_node_opts, state_dir, 40, 24);
AT(k3sup_node_opts, reserved, 48, 28);
END(k3sup_node_opts, reserved, 56, 32);

AT(k3sup_build_read_opts, struct_size, 0, 0);
AT(k3sup_build_read_opts, flags, 4, 4);
AT(k3sup_build_read_opts, path, 8, 8);
AT(k3sup_build_read_opts, reserved, 16, 12);
AT(k3sup_build_read_opts, fd, 24, 16);
AT(k3sup_build_read_opts, reserved2, 28, 20);
END(k3sup_build_read_opts, reserved2, 32, 24);

AT(k3sup_policy_opts, struct_size, 0, 0);
AT(k3sup_policy_opts, flags, 4, 4);
AT(k3sup_policy_opts, installed, 8, 8);
AT(k3sup_policy_opts, payload, 16, 12);
AT(k3sup_policy_opts, floor, 24, 16);
AT(k3sup_policy_opts, server, 32, 20);
AT(k3sup_policy_opts, role, 40, 24);
AT(k3sup_policy_opts, payload_kind, 48, 28);
AT(k3sup_policy_opts, payload_arch, 56, 32);
AT(k3sup_policy_opts, node_arch, 64, 36);
AT(k3sup_policy_opts, installed_built, 72, 40);
AT(k3sup_policy_opts, payload_built, 80, 44);
END(k3sup_policy_opts, payload_built, 88, 48);

AT(k3sup_identify_opts, struct_size, 0, 0);
AT(k3sup_identify_opts, flags, 4, 4);
END(k3sup_identify_opts, flags, 8, 8);

AT(k3sup_signal_opts, struct_size, 0, 0);
AT(k3sup_signal_opts, flags, 4, 4);
AT(k3sup_signal_opts, process, 8, 8);
AT(k3sup_signal_opts, reserved, 16, 12);
AT(k3sup_signal_opts, signo, 24, 16);
AT(k3sup_signal_opts, reserved2, 28, 20);
END(k3sup_signal_opts, reserved2, 32, 24);

AT(k3sup_wait_exit_opts, struct_size, 0, 0);
AT(k3sup_wait_exit_opts, flags, 4, 4);
AT(k3sup_wait_exit_opts, timeout_ms, 8, 8);
AT(k3sup_wait_exit_opts, process, 16, 16);
AT(k3sup_wait_exit_opts, reserved, 24, 20);
END(k3sup_wait_exit_opts, reserved, 32, 24);

AT(k3sup_service_opts, struct_size, 0, 0);
AT(k3sup_service_opts, flags, 4, 4);
AT(k3sup_service_opts, timeout_ms, 8, 8);
AT(k3sup_service_opts, wait_lock_ms, 16, 16);
AT(k3sup_service_opts, stable_ms, 24, 24);
AT(k3sup_service_opts, guard_delay_ms, 32, 32);
AT(k3sup_service_opts, name, 40, 40);
AT(k3sup_service_opts, reserved, 48, 44);
AT(k3sup_service_opts, action, 56, 48);
AT(k3sup_service_opts, reserved2, 60, 52);
AT(k3sup_service_opts, stop_command, 64, 56);
AT(k3sup_service_opts, start_command, 72, 60);
AT(k3sup_service_opts, status_command, 80, 64);
AT(k3sup_service_opts, reserved3, 88, 68);
END(k3sup_service_opts, reserved3, 96, 72);

AT(k3sup_wait_running_opts, struct_size, 0, 0);
AT(k3sup_wait_running_opts, flags, 4, 4);
AT(k3sup_wait_running_opts, timeout_ms, 8, 8);
AT(k3sup_wait_running_opts, stable_ms, 16, 16);
AT(k3sup_wait_running_opts, previous, 24, 24);
AT(k3sup_wait_running_opts, asset_hash, 32, 28);
AT(k3sup_wait_running_opts, health, 40, 32);
AT(k3sup_wait_running_opts, reserved, 48, 36);
AT(k3sup_wait_running_opts, probe, 56, 40);
AT(k3sup_wait_running_opts, reserved2, 60, 44);
END(k3sup_wait_running_opts, reserved2, 64, 48);

AT(k3sup_swap_opts, struct_size, 0, 0);
AT(k3sup_swap_opts, flags, 4, 4);
AT(k3sup_swap_opts, wait_lock_ms, 8, 8);
AT(k3sup_swap_opts, payload, 16, 16);
AT(k3sup_swap_opts, reserved, 24, 20);
AT(k3sup_swap_opts, payload_fd, 32, 24);
AT(k3sup_swap_opts, keep_backups, 36, 28);
AT(k3sup_swap_opts, sha256, 40, 32);
AT(k3sup_swap_opts, sums, 48, 36);
AT(k3sup_swap_opts, signature, 56, 40);
AT(k3sup_swap_opts, key, 64, 44);
AT(k3sup_swap_opts, expect_version, 72, 48);
AT(k3sup_swap_opts, server_version, 80, 52);
END(k3sup_swap_opts, server_version, 88, 56);

AT(k3sup_stage_opts, struct_size, 0, 0);
AT(k3sup_stage_opts, flags, 4, 4);
AT(k3sup_stage_opts, wait_lock_ms, 8, 8);
AT(k3sup_stage_opts, files, 16, 16);
AT(k3sup_stage_opts, sha256, 24, 20);
AT(k3sup_stage_opts, sums, 32, 24);
AT(k3sup_stage_opts, signature, 40, 28);
AT(k3sup_stage_opts, key, 48, 32);
AT(k3sup_stage_opts, reserved, 56, 36);
END(k3sup_stage_opts, reserved, 64, 40);
AT(k3sup_unpack_opts, struct_size, 0, 0);
AT(k3sup_unpack_opts, flags, 4, 4);
AT(k3sup_unpack_opts, timeout_ms, 8, 8);
AT(k3sup_unpack_opts, wait_lock_ms, 16, 16);
AT(k3sup_unpack_opts, payload, 24, 24);
AT(k3sup_unpack_opts, reserved, 32, 28);
AT(k3sup_unpack_opts, payload_fd, 40, 32);
AT(k3sup_unpack_opts, reserved2, 44, 36);
AT(k3sup_unpack_opts, sha256, 48, 40);
AT(k3sup_unpack_opts, sums, 56, 44);
AT(k3sup_unpack_opts, signature, 64, 48);
AT(k3sup_unpack_opts, key, 72, 52);
AT(k3sup_unpack_opts, expect_version, 80, 56);
AT(k3sup_unpack_opts, reserved3, 88, 60);
END(k3sup_unpack_opts, reserved3, 96, 64);
AT(k3sup_swap_rollback_opts, struct_size, 0, 0);
AT(k3sup_swap_rollback_opts, flags, 4, 4);
AT(k3sup_swap_rollback_opts, wait_lock_ms, 8, 8);
AT(k3sup_swap_rollback_opts, sha256, 16, 16);
AT(k3sup_swap_rollback_opts, expect_version, 24, 20);
END(k3sup_swap_rollback_opts, expect_version, 32, 24);

AT(k3sup_swap_backups_opts, struct_size, 0, 0);
AT(k3sup_swap_backups_opts, flags, 4, 4);
AT(k3sup_swap_backups_opts, wait_lock_ms, 8, 8);
AT(k3sup_swap_backups_opts, keep, 16, 16);
AT(k3sup_swap_backups_opts, reserved, 20, 20);
END(k3sup_swap_backups_opts, reserved, 24, 24);

AT(k3sup_upgrade_opts, struct_size, 0, 0);
AT(k3sup_upgrade_opts, flags, 4, 4);
AT(k3sup_upgrade_opts, timeout_ms, 8, 8);
AT(k3sup_upgrade_opts, wait_lock_ms, 16, 16);
AT(k3sup_upgrade_opts, stable_ms, 24, 24);
AT(k3sup_upgrade_opts, payload, 32, 32);
AT(k3sup_upgrade_opts, reserved, 40, 36);
AT(k3sup_upgrade_opts, payload_fd, 48, 40);
AT(k3sup_upgrade_opts, restart, 52, 44);
AT(k3sup_upgrade_opts, sha256, 56, 48);
AT(k3sup_upgrade_opts, sums, 64, 52);
AT(k3sup_upgrade_opts, signature, 72, 56);
AT(k3sup_upgrade_opts, key, 80, 60);
AT(k3sup_upgrade_opts, expect_version, 88, 64);
AT(k3sup_upgrade_opts, server_version, 96, 68);
AT(k3sup_upgrade_opts, health, 104, 72);
AT(k3sup_upgrade_opts, reserved3, 112, 76);
AT(k3sup_upgrade_opts, probe, 120, 80);
AT(k3sup_upgrade_opts, reserved4, 124, 84);
AT(k3sup_upgrade_opts, images, 128, 88);
AT(k3sup_upgrade_opts, reserved5, 136, 92);
AT(k3sup_upgrade_opts, before_write, 144, 96);
AT(k3sup_upgrade_opts, before_stop, 152, 100);
AT(k3sup_upgrade_opts, keep_backups, 160, 104);
AT(k3sup_upgrade_opts, rollback, 164, 108);
AT(k3sup_upgrade_opts, guard_delay_ms, 168, 112);
AT(k3sup_upgrade_opts, stop_command, 176, 120);
AT(k3sup_upgrade_opts, start_command, 184, 124);
AT(k3sup_upgrade_opts, status_command, 192, 128);
AT(k3sup_upgrade_opts, rotate_key, 200, 132);
END(k3sup_upgrade_opts, rotate_key, 208, 136);

AT(k3sup_state_opts, struct_size, 0, 0);
AT(k3sup_state_opts, flags, 4, 4);
AT(k3sup_state_opts, payload, 8, 8);
AT(k3sup_state_opts, reserved, 16, 12);
AT(k3sup_state_opts, sha256, 24, 16);
AT(k3sup_state_opts, sums, 32, 20);
AT(k3sup_state_opts, signature, 40, 24);
AT(k3sup_state_opts, key, 48, 28);
AT(k3sup_state_opts, expect_version, 56, 32);
AT(k3sup_state_opts, reserved2, 64, 36);
END(k3sup_state_opts, reserved2, 72, 40);

AT(k3sup_certs_check_opts, struct_size, 0, 0);
AT(k3sup_certs_check_opts, flags, 4, 4);
AT(k3sup_certs_check_opts, at, 8, 8);
AT(k3sup_certs_check_opts, services, 16, 16);
AT(k3sup_certs_check_opts, kubeconfigs, 24, 20);
AT(k3sup_certs_check_opts, k3s_version, 32, 24);
AT(k3sup_certs_check_opts, reserved, 40, 28);
AT(k3sup_certs_check_opts, warn_days, 48, 32);
AT(k3sup_certs_check_opts, reserved2, 52, 36);
END(k3sup_certs_check_opts, reserved2, 56, 40);

AT(k3sup_certs_ca_check_opts, struct_size, 0, 0);
AT(k3sup_certs_ca_check_opts, flags, 4, 4);
AT(k3sup_certs_ca_check_opts, dir, 8, 8);
AT(k3sup_certs_ca_check_opts, server_dir, 16, 12);
END(k3sup_certs_ca_check_opts, server_dir, 24, 16);

AT(k3sup_rotate_opts, struct_size, 0, 0);
AT(k3sup_rotate_opts, flags, 4, 4);
AT(k3sup_rotate_opts, timeout_ms, 8, 8);
AT(k3sup_rotate_opts, wait_lock_ms, 16, 16);
AT(k3sup_rotate_opts, stable_ms, 24, 24);
AT(k3sup_rotate_opts, guard_delay_ms, 32, 32);
AT(k3sup_rotate_opts, key, 40, 40);
AT(k3sup_rotate_opts, health, 48, 44);
AT(k3sup_rotate_opts, services, 56, 48);
AT(k3sup_rotate_opts, reserved, 64, 52);
AT(k3sup_rotate_opts, if_within_days, 72, 56);
AT(k3sup_rotate_opts, restart, 76, 60);
AT(k3sup_rotate_opts, probe, 80, 64);
AT(k3sup_rotate_opts, keep, 84, 68);
AT(k3sup_rotate_opts, keep_days, 88, 72);
AT(k3sup_rotate_opts, reserved2, 92, 76);
AT(k3sup_rotate_opts, stop_command, 96, 80);
AT(k3sup_rotate_opts, start_command, 104, 84);
AT(k3sup_rotate_opts, status_command, 112, 88);
AT(k3sup_rotate_opts, reserved3, 120, 92);
AT(k3sup_rotate_opts, before_write, 128, 96);
AT(k3sup_rotate_opts, before_stop, 136, 100);
END(k3sup_rotate_opts, before_stop, 144, 104);

AT(k3sup_certs_retire_opts, struct_size, 0, 0);
AT(k3sup_certs_retire_opts, flags, 4, 4);
AT(k3sup_certs_retire_opts, services, 8, 8);
AT(k3sup_certs_retire_opts, reserved, 16, 12);
AT(k3sup_certs_retire_opts, keep, 24, 16);
AT(k3sup_certs_retire_opts, keep_days, 28, 20);
END(k3sup_certs_retire_opts, keep_days, 32, 24);

AT(k3sup_certs_restore_opts, struct_size, 0, 0);
AT(k3sup_certs_restore_opts, flags, 4, 4);
AT(k3sup_certs_restore_opts, backup, 8, 8);
AT(k3sup_certs_restore_opts, reserved, 16, 12);
END(k3sup_certs_restore_opts, reserved, 24, 16);

AT(k3sup_certs_backups_opts, struct_size, 0, 0);
AT(k3sup_certs_backups_opts, flags, 4, 4);
END(k3sup_certs_backups_opts, flags, 8, 8);
