/* SPDX-License-Identifier: Apache-2.0 */
#include "../base/scratch.h"

#include <signal.h>
#include <sys/resource.h>
#include <sys/utsname.h>
#include <sys/wait.h>

#include "base/root.h"
#include "elfmake.h"
#include "node/build.h"

#define WRAPPER_NAME "embed/" ELF_HASH ".tar.zst"
#define FLAGS(settings) \
	"path\tgithub.com/k3s-io/k3s/cmd/k3s\nmod\tgithub.com/k3s-io/k3s\t(devel)\t\nbuild\t-ldflags=\"" settings "\"\nbuild\tGOOS=" \
	"linux\n"
#define SET_VERSION(v) "-X github.com/k3s-io/k3s/pkg/version.Version=" v " -X github.com/k3s-io/k3s/pkg/version.GitCommit=313a3b99 -w -s"

static void put_bytes(struct scratch *s, const char *name, const void *bytes, size_t len)
{
	int fd = openat(s->fd, name, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0755);

	assert_true(fd >= 0);
	assert_int_equal(k3sup__write_full(fd, bytes, len), 0);
	close(fd);
}

static int read_file(struct scratch *s, const char *name, unsigned flags, struct k3sup__build *build)
{
	int fd = openat(s->fd, name, O_RDONLY | O_CLOEXEC | O_NONBLOCK), r;

	assert_true(fd >= 0);
	r = k3sup__build_read_fd(s->op, fd, name, flags, build);
	close(fd);
	return r;
}

static int read_elf(struct scratch *s, const struct elf_spec *spec, unsigned flags, struct k3sup__build *build)
{
	size_t len;
	unsigned char *elf = elf_make(spec, &len);

	put_bytes(s, "k3s", elf, len);
	free(elf);
	return read_file(s, "k3s", flags, build);
}

static int read_text(struct scratch *s, const char *data, struct k3sup__build *build)
{
	struct elf_spec spec = {.data = data, .data_len = strlen(data)};

	return read_elf(s, &spec, 0, build);
}

static size_t warnings(struct scratch *s)
{
	return k3sup__json_len(k3sup__json_member(k3sup__op_facts(s->op), "warnings"));
}

static void a_wrapper_is_read_from_its_headers_and_its_archives_name(void **state)
{
	struct scratch *s = *state;
	static const char data[] = "neighbour" WRAPPER_NAME "Sunday\0\0v1.24.14+k3s1\0\0";
	struct elf_spec spec = {.form = ELF_GO_INLINE, .mod = FLAGS(SET_VERSION("v1.24.14+k3s1")), .data = data, .data_len = sizeof(data)};
	struct k3sup__build build;
	k3sup__json *json;

	assert_int_equal(read_elf(s, &spec, 0, &build), 0);
	assert_true(build.wrapper);
	assert_false(build.inner);
	assert_string_equal(build.asset_hash, ELF_HASH);
	assert_string_equal(build.version, "v1.24.14+k3s1");
	assert_string_equal(build.commit, "313a3b99");
	assert_string_equal(build.go, "go1.22.5");
	assert_string_equal(build.arch, "amd64");
	assert_string_equal(build.sha256, "");
	assert_int_equal(warnings(s), 0);
	json = k3sup__build_json(&build);
	assert_string_equal(k3sup__json_text(json, "kind"), "wrapper");
	assert_string_equal(k3sup__json_text(json, "asset_hash"), ELF_HASH);
	assert_null(k3sup__json_member(json, "sha256"));
	k3sup__json_unref(json);
}

static void old_asset_names_are_known_too(void **state)
{
	struct scratch *s = *state;
	struct k3sup__build build;

	assert_int_equal(read_text(s, "xbuild/data/" ELF_HASH ".tar.gzy", &build), 0);
	assert_string_equal(build.asset_hash, ELF_HASH);
	assert_int_equal(read_text(s, "xbuild/data/" ELF_HASH ".tgzy", &build), 0);
	assert_string_equal(build.asset_hash, ELF_HASH);
}

static void a_name_that_is_not_anchored_on_both_sides_is_no_archive(void **state)
{
	static const char *const bad[] = {"data/" ELF_HASH ".tar.zst", "embed/a" ELF_HASH ".tar.zst", "embed/" ELF_HASH ".tar.xz",
		"embed/" ELF_HASH ".zst", "embed/91C5255cd9e1a0963458722d37dec9477c99a25602c838b553f2cb852bde4dde.tar.zst", ".tar.zst"};
	struct scratch *s = *state;
	struct k3sup__build build;

	for (size_t i = 0; i < ELEMENTSOF(bad); i++) {
		assert_int_equal(read_text(s, bad[i], &build), K3SUP_E_PAYLOAD_NOT_K3S);
		assert_string_equal(build.asset_hash, "");
		assert_sentence(s, "nothing in it says that it is k3s");
	}
}

static void read_wrapper(struct scratch *s, const char *data, size_t len, bool archive, unsigned flags, int status, struct k3sup__build *build)
{
	struct elf_spec spec = {.data = data, .data_len = len, .no_archive = !archive};

	k3sup__op_forgive(s->op);
	assert_int_equal(read_elf(s, &spec, flags, build), status);
	assert_int_equal(build->wrapper, status == 0);
	assert_string_equal(build->asset_hash, status == 0 ? ELF_HASH : "");
	assert_true((build->asset_check != NULL) == (status == 0));
	assert_true(build->names_archive);
}

static void a_decoy_beside_the_archives_name_is_told_by_the_digest(void **state)
{
	static const char after[] = WRAPPER_NAME " embed/" ELF_HASH2 ".tar.zst", before[] = "embed/" ELF_HASH2 ".tar.gz" WRAPPER_NAME,
			  twice[] = WRAPPER_NAME WRAPPER_NAME;
	struct scratch *s = *state;
	unsigned char frame[FRAME_LEN];
	struct k3sup__build build;
	char other[sizeof(after)];

	read_wrapper(s, twice, strlen(twice), true, 0, 0, &build);
	assert_string_equal(build.asset_check, "frame");
	read_wrapper(s, after, strlen(after), true, 0, 0, &build);
	assert_string_equal(build.asset_check, "digest");
	frame_make('1', frame);
	{
		char data[sizeof(before) + FRAME_LEN];

		memcpy(data, before, sizeof(before));
		memcpy(data + sizeof(before), frame, FRAME_LEN);
		read_wrapper(s, data, sizeof(data), false, 0, 0, &build);
		assert_string_equal(build.asset_check, "digest");
	}
	/* Neither of them is the one that is there. */
	memcpy(other, after, sizeof(after));
	other[6] = 'c';
	read_wrapper(s, other, strlen(other), true, 0, K3SUP_E_PAYLOAD_NOT_K3S, &build);
	assert_sentence(s, "more than one");
	read_wrapper(s, after, strlen(after), false, 0, K3SUP_E_PAYLOAD_NOT_K3S, &build);
	assert_sentence(s, "more than one");
}

/* A text that any program may hold; also one that is an inner k3s otherwise. */
static void a_name_without_an_archive_is_not_believed(void **state)
{
	struct elf_spec inner = {.form = ELF_GO_INLINE,
		.mod = "path\tgithub.com/k3s-io/k3s/cmd/server\nbuild\t-ldflags=\"" SET_VERSION("v1.30.4+k3s1") "\"\n",
		.data = WRAPPER_NAME,
		.data_len = strlen(WRAPPER_NAME),
		.no_archive = true};
	struct scratch *s = *state;
	struct k3sup__build build;

	read_wrapper(s, WRAPPER_NAME, strlen(WRAPPER_NAME), false, 0, K3SUP_E_PAYLOAD_NOT_K3S, &build);
	assert_sentence(s, "there is none in it");
	assert_int_equal(read_elf(s, &inner, K3SUP__BUILD_LENIENT, &build), 0);
	assert_false(build.wrapper || build.inner);
	assert_true(build.names_archive);
}

/* Cut, or with a block whose length is damaged: seen without a digest. A changed byte: with one. */
static void a_damaged_archive_is_noticed(void **state)
{
	struct scratch *s = *state;
	char data[sizeof(WRAPPER_NAME) + FRAME_LEN + 8] = WRAPPER_NAME;
	unsigned char *frame = (unsigned char *)data + sizeof(WRAPPER_NAME);
	struct k3sup__build build;

	frame_make('1', frame);
	read_wrapper(s, data, sizeof(data), false, K3SUP__BUILD_ARCHIVE, 0, &build);
	assert_string_equal(build.asset_check, "digest");
	frame[6 + 4 * 16 + 3] ^= 1;
	read_wrapper(s, data, sizeof(data), false, 0, 0, &build);
	assert_string_equal(build.asset_check, "frame");
	read_wrapper(s, data, sizeof(data), false, K3SUP__BUILD_ARCHIVE, K3SUP_E_PAYLOAD_CORRUPT, &build);
	assert_sentence(s, "is damaged");
	frame[6 + 4 * 16 + 3] ^= 1;
	frame[6 + 4 * 31] = 8; /* it is not the last block any more, and the next one is of no kind */
	memset(frame + FRAME_LEN, 0xff, 8);
	read_wrapper(s, data, sizeof(data), false, 0, K3SUP_E_PAYLOAD_CORRUPT, &build);
	assert_sentence(s, "does not reach its end");
	read_wrapper(s, data, sizeof(data), false, K3SUP__BUILD_ARCHIVE, K3SUP_E_PAYLOAD_CORRUPT, &build);
}

static void of_a_gzip_archive_only_the_name_is_known(void **state)
{
	static const char *const names[] = {"build/data/" ELF_HASH ".tgz", "build/data/" ELF_HASH ".tar.gz"};
	struct scratch *s = *state;
	struct k3sup__build build;

	for (size_t i = 0; i < ELEMENTSOF(names); i++) {
		read_wrapper(s, names[i], strlen(names[i]), false, K3SUP__BUILD_ARCHIVE, 0, &build);
		assert_string_equal(build.asset_check, "name");
	}
}

/* Whatever the place of a find relative to the pieces that are read, it is found once. */
static void finds_on_the_seam_of_two_pieces_are_found(void **state)
{
	static const char find[] = WRAPPER_NAME "\0v1.30.4-rc10+k3s2\0";
	const size_t len = (3u << 20) + 5000;
	struct scratch *s = *state;
	unsigned char *data = malloc(len);
	struct elf_spec spec = {.data = data, .data_len = len};

	assert_non_null(data);
	for (size_t at = (1u << 20) - 600; at < (1u << 20) + 600; at += 37) {
		struct k3sup__build build;

		memset(data, '.', len);
		memcpy(data + at, find, sizeof(find));
		memcpy(data + at + (1u << 20) + 11, find, sizeof(find));
		assert_int_equal(read_elf(s, &spec, 0, &build), 0);
		assert_string_equal(build.asset_hash, ELF_HASH);
		assert_string_equal(build.version, "v1.30.4-rc10+k3s2");
	}
	free(data);
}

static void every_machine_has_gos_name(void **state)
{
	static const struct {
		unsigned machine;
		bool is32, big_endian;
		const char *name;
	} all[] = {{EM_X86_64, false, false, "amd64"}, {EM_AARCH64, false, false, "arm64"}, {EM_ARM, true, false, "arm"},
		{EM_S390, false, true, "s390x"}, {243, false, false, "riscv64"}, {EM_386, true, false, "386"}, {EM_X86_64, true, false, ""},
		{EM_MIPS, true, true, ""}};
	static const char data[] = WRAPPER_NAME;
	struct scratch *s = *state;

	for (size_t i = 0; i < ELEMENTSOF(all); i++)
		for (int form = ELF_GO_INLINE; form <= ELF_GO_POINTERS; form++)
			for (int sections = 0; sections < 2; sections++) {
				struct elf_spec spec = {.machine = all[i].machine,
					.is32 = all[i].is32,
					.big_endian = all[i].big_endian,
					.no_sections = sections == 0,
					.form = (enum elf_go)form,
					.go = "go1.16.10",
					.mod = FLAGS(SET_VERSION("v1.24.14+k3s1")),
					.data = data,
					.data_len = sizeof(data)};
				struct k3sup__build build;

				assert_int_equal(read_elf(s, &spec, 0, &build), 0);
				assert_string_equal(build.arch, all[i].name);
				assert_string_equal(build.go, "go1.16.10");
				assert_string_equal(build.version, "v1.24.14+k3s1");
			}
}

static void a_build_for_another_machine_is_refused_where_asked(void **state)
{
	static const char data[] = WRAPPER_NAME;
	struct elf_spec spec = {.machine = EM_AARCH64, .data = data, .data_len = sizeof(data)};
	struct scratch *s = *state;
	struct utsname name;
	struct k3sup__build build;

	assert_int_equal(uname(&name), 0);
	if (!k3sup__streq(name.machine, "x86_64"))
		skip();
	assert_int_equal(read_elf(s, &spec, 0, &build), 0);
	assert_int_equal(read_elf(s, &spec, K3SUP__BUILD_HOST_ARCH, &build), K3SUP_E_PAYLOAD_ARCH);
	assert_string_equal(build.asset_hash, ELF_HASH);
	assert_sentence(s, "k3s is for arm64");
	spec.machine = EM_MIPS;
	assert_int_equal(read_elf(s, &spec, K3SUP__BUILD_HOST_ARCH, &build), K3SUP_E_PAYLOAD_ARCH);
	assert_sentence(s, "unknown architecture");
	spec.machine = EM_X86_64;
	assert_int_equal(read_elf(s, &spec, K3SUP__BUILD_HOST_ARCH, &build), 0);
}

/* A cut at any byte: never taken for a whole k3s. */
static void a_cut_file_is_never_whole(void **state)
{
	static const char data[] = WRAPPER_NAME "\0v1.30.4+k3s1";
	struct elf_spec spec = {.form = ELF_GO_INLINE, .mod = FLAGS(SET_VERSION("v1.30.4+k3s1")), .data = data, .data_len = sizeof(data)};
	struct scratch *s = *state;
	struct k3sup__build build;

	for (int sections = 0; sections < 2; sections++) {
		unsigned char *elf;
		size_t len;

		spec.no_sections = sections == 0;
		elf = elf_make(&spec, &len);
		/* Without sections only the segment can be missed: the names behind it belong to nothing. */
		for (size_t cut = sections != 0 ? len - 1 : len - 80; cut > 0; cut -= cut < 200 ? 1 : 7) {
			int r, expected = cut >= EI_NIDENT ? K3SUP_E_PAYLOAD_TRUNCATED : K3SUP_E_PAYLOAD_NOT_K3S;

			put_bytes(s, "cut", elf, cut);
			r = read_file(s, "cut", 0, &build);
			if (r != expected)
				fail_msg("%d for %zu of %zu bytes", r, cut, len);
			assert_int_equal(read_file(s, "cut", K3SUP__BUILD_LENIENT | K3SUP__BUILD_SHA256, &build), 0);
			assert_int_equal(build.size, cut);
			assert_int_equal(strlen(build.sha256), 64);
		}
		free(elf);
	}
}

static void what_is_not_k3s_is_refused_with_its_reason(void **state)
{
	static const char script[] = "#!/bin/sh\n# " WRAPPER_NAME " v1.30.4+k3s1\n";
	struct scratch *s = *state;
	struct k3sup__build build;
	int fd;

	put_bytes(s, "script", script, sizeof(script));
	assert_int_equal(read_file(s, "script", 0, &build), K3SUP_E_PAYLOAD_NOT_K3S);
	assert_sentence(s, "not a program");
	put_bytes(s, "empty", "", 0);
	assert_int_equal(read_file(s, "empty", 0, &build), K3SUP_E_PAYLOAD_EMPTY);
	assert_sentence(s, "empty is empty");
	assert_int_equal(read_file(s, "empty", K3SUP__BUILD_LENIENT, &build), 0);
	fd = open("/bin/sh", O_RDONLY | O_CLOEXEC);
	assert_int_equal(k3sup__build_read_fd(s->op, fd, "the shell", 0, &build), K3SUP_E_PAYLOAD_NOT_K3S);
	close(fd);
	assert_sentence(s, "the shell is a program");
	assert_int_equal(k3sup__build_read_fd(s->op, s->fd, "it", 0, &build), K3SUP_E_PAYLOAD_NOT_FILE);
	assert_int_equal(k3sup__build_read_fd(s->op, s->fd, "it", K3SUP__BUILD_LENIENT, &build), K3SUP_E_PAYLOAD_NOT_FILE);
}

static void an_inner_program_is_known_by_what_the_linker_wrote_down(void **state)
{
	static const struct {
		const char *mod;
		const char *data;
		bool inner;
		const char *version;
	} all[] = {
		{"path\tgithub.com/k3s-io/k3s/cmd/server\nbuild\t-ldflags=\"" SET_VERSION("v1.30.4+k3s1") "\"\n", "", true, "v1.30.4+k3s1"},
		{"path\tcommand-line-arguments\nbuild\t-ldflags=\"" SET_VERSION("v1.24.4+k3s1") "\"\n", "", true, "v1.24.4+k3s1"},
		{"path\tgithub.com/rancher/k3s/cmd/server\n", "v1.22.2+k3s1", true, "v1.22.2+k3s1"},
		/* distributions: without the leading v (NixOS), a module path of their own */
		{"path\tgithub.com/k3s-io/k3s/cmd/server\nbuild\t-ldflags=\"" SET_VERSION("1.30.4+k3s1") "\"\n", "", true, "1.30.4+k3s1"},
		{"path\tcommand-line-arguments\nbuild\t-ldflags=\"-X example.org/fork/k3s/pkg/version.Version=v1.30.4+k3s1\"\n", "", true,
			"v1.30.4+k3s1"},
		{"path\tcommand-line-arguments\ndep\tgithub.com/rancher/kine\tv0.6.0\th1:x\n", "v1.21.3+k3s1", true, "v1.21.3+k3s1"},
		{"path\tcommand-line-arguments\ndep\tgithub.com/rancher/kine\tv0.6.0\th1:x\n", "", false, ""},
		{"path\tcommand-line-arguments\n", "v1.21.3+k3s1", false, ""},
		{"path\tgithub.com/rancher/rke2\nbuild\t-ldflags=\"-X github.com/rancher/rke2/pkg/version.Version=v1.30.4+rke2r1\"\n", "", false, ""},
		{"path\tgithub.com/k3s-io/k3s/cmd/k3s\nbuild\t-ldflags=\"" SET_VERSION("v1.30.4+k3s1") "\"\n", "", false, ""},
	};
	struct scratch *s = *state;

	for (size_t i = 0; i < ELEMENTSOF(all); i++) {
		struct elf_spec spec = {.form = ELF_GO_INLINE, .mod = all[i].mod, .data = all[i].data, .data_len = strlen(all[i].data)};
		struct k3sup__build build;

		assert_int_equal(read_elf(s, &spec, 0, &build), all[i].inner ? 0 : K3SUP_E_PAYLOAD_NOT_K3S);
		assert_false(build.wrapper);
		assert_int_equal(build.inner, all[i].inner);
		assert_string_equal(build.version, all[i].version);
	}
}

static void the_version_is_k3ss_own_and_no_components(void **state)
{
	static const char *const flags[] = {
		/* containerd's and crictl's forks end in -k3s1 and are set in the same way */
		"-X github.com/containerd/containerd/version.Version=v1.7.20-k3s1 " SET_VERSION("v1.30.4+k3s1"),
		SET_VERSION("v1.30.4+k3s1") " -X github.com/kubernetes-sigs/cri-tools/pkg/version.Version=v1.29.0-k3s1",
		"-X=github.com/k3s-io/k3s/pkg/version.Version=v1.30.4+k3s1",
		"-X 'example.org/fork/k3s/pkg/version.Version=v1.30.4+k3s1'",
		"-X \\\"example.org/other/pkg/version.Version=v1.30.4+k3s1\\\" -w",
	};
	struct scratch *s = *state;

	for (size_t i = 0; i < ELEMENTSOF(flags); i++) {
		_free_ char *mod = k3sup__fmt("path\tx\nbuild\t-ldflags=\"%s\"\n", flags[i]);
		struct elf_spec spec = {.form = ELF_GO_INLINE, .mod = mod, .data = WRAPPER_NAME, .data_len = strlen(WRAPPER_NAME)};
		struct k3sup__build build;

		assert_int_equal(read_elf(s, &spec, 0, &build), 0);
		assert_string_equal(build.version, "v1.30.4+k3s1");
	}
	assert_int_equal(warnings(s), 0);
}

/* scripts/build tells the programs inside; other components have variables of that name, too. */
static void a_program_inside_says_when_it_was_built(void **state)
{
	static const struct {
		const char *flags, *built;
	} table[] = {
		{"-X k8s.io/client-go/pkg/version.buildDate=2020-01-01T00:00:00Z -X "
		 "k8s.io/component-base/version.buildDate=2023-05-26T21:50:22Z ",
			"2023-05-26T21:50:22Z"},
		{"-X=k8s.io/component-base/version.buildDate=2023-05-26T21:50:22Z ", "2023-05-26T21:50:22Z"},
		{"-X k8s.io/client-go/pkg/version.buildDate=2020-01-01T00:00:00Z ", ""},
		{"-X k8s.io/component-base/version.buildDate=a-date-that-is-much-longer-than-any-date ", ""},
		{"", ""},
	};
	struct scratch *s = *state;

	for (size_t i = 0; i < ELEMENTSOF(table); i++) {
		_free_ char *mod = k3sup__fmt(
			"path\tgithub.com/k3s-io/k3s/cmd/server\nbuild\t-ldflags=\"%s%s\"\n", table[i].flags, SET_VERSION("v1.30.4+k3s1"));
		struct elf_spec spec = {.form = ELF_GO_INLINE, .mod = mod, .no_archive = true};
		struct k3sup__build build;

		assert_int_equal(read_elf(s, &spec, 0, &build), 0);
		assert_string_equal(build.version, "v1.30.4+k3s1");
		assert_string_equal(build.built, table[i].built);
	}
}

static void a_components_version_alone_is_none(void **state)
{
	static const char mod[] = "path\tx\nbuild\t-ldflags=\"-X github.com/containerd/containerd/version.Version=v1.7.20-k3s1\"\n";
	struct elf_spec spec = {.form = ELF_GO_INLINE, .mod = mod, .data = WRAPPER_NAME, .data_len = strlen(WRAPPER_NAME)};
	struct scratch *s = *state;
	struct k3sup__build build;

	assert_int_equal(read_elf(s, &spec, 0, &build), 0);
	assert_string_equal(build.version, "");
}

static void contradicting_versions_are_absent_and_warned_about(void **state)
{
	struct scratch *s = *state;
	struct elf_spec spec = {.form = ELF_GO_INLINE, .mod = FLAGS(SET_VERSION("v1.30.4+k3s1"))};
	struct k3sup__build build;

	spec.data = WRAPPER_NAME "\0v1.30.5+k3s1\0";
	spec.data_len = strlen(WRAPPER_NAME) + 14;
	assert_int_equal(read_elf(s, &spec, 0, &build), 0);
	assert_string_equal(build.version, "");
	assert_string_equal(build.commit, "");
	assert_string_equal(build.asset_hash, ELF_HASH);
	assert_int_equal(warnings(s), 1);
	k3sup__json_del(k3sup__op_facts(s->op), "warnings"); /* the same again would be said once */
	assert_int_equal(read_text(s, WRAPPER_NAME " v1.30.4+k3s1 v1.30.5+k3s1", &build), 0);
	assert_string_equal(build.version, "");
	assert_int_equal(warnings(s), 1);
	k3sup__json_del(k3sup__op_facts(s->op), "warnings");
	spec.mod = FLAGS(SET_VERSION("v1.30.4+k3s1") " -X a/k3s/pkg/version.Version=v1.30.5+k3s1");
	spec.data_len = strlen(WRAPPER_NAME);
	assert_int_equal(read_elf(s, &spec, 0, &build), 0);
	assert_string_equal(build.version, "");
	assert_int_equal(warnings(s), 1);
}

static void the_bytes_tell_the_version_where_the_linker_does_not(void **state)
{
	struct scratch *s = *state;
	struct k3sup__build build;

	assert_int_equal(read_text(s, WRAPPER_NAME " xv1.22.2+k3s1 v1.30.4 v1.7.20-k3s1 +k3s1 v1.2+k3s1", &build), 0);
	assert_string_equal(build.version, "v1.22.2+k3s1");
	assert_int_equal(read_text(s, WRAPPER_NAME " v1.22.2-rc1+k3s-7d66e419-dirty/x", &build), 0);
	assert_string_equal(build.version, "v1.22.2-rc1+k3s-7d66e419-dirty");
	assert_int_equal(read_text(s, WRAPPER_NAME " v1.22.2+k3s1github.com", &build), 0);
	assert_string_equal(build.version, "v1.22.2+k3s1");
	assert_int_equal(read_text(s, WRAPPER_NAME, &build), 0);
	assert_string_equal(build.version, "");
	assert_int_equal(warnings(s), 0);
}

static void the_digest_comes_from_the_same_pass(void **state)
{
	static const char data[] = WRAPPER_NAME;
	struct elf_spec spec = {.data = data, .data_len = sizeof(data)};
	struct scratch *s = *state;
	_free_ char *command = k3sup__fmt("sha256sum <%s/k3s", s->path);
	char expected[65] = "";
	struct k3sup__build build;
	FILE *pipe;

	assert_int_equal(read_elf(s, &spec, K3SUP__BUILD_SHA256, &build), 0);
	pipe = popen(command, "re");
	assert_non_null(pipe);
	assert_int_equal(fread(expected, 1, 64, pipe), 64);
	pclose(pipe);
	assert_string_equal(build.sha256, expected);
}

static void mutate(unsigned char *elf, size_t len, unsigned *seed)
{
	for (int n = 1 + rand_r(seed) % 4; n > 0; n--) {
		static const unsigned char extreme[] = {0, 1, 0x7f, 0x80, 0xff};
		size_t at = (size_t)rand_r(seed) % (rand_r(seed) % 2 ? len : 128);

		for (int run = rand_r(seed) % 8; run >= 0 && at < len; run--)
			elf[at++] = extreme[(size_t)rand_r(seed) % sizeof(extreme)];
	}
}

/* Sanitizers do the judging; the time is bounded by the test's own limit. */
static void hostile_headers_are_survived(void **state)
{
	static const char data[] = WRAPPER_NAME "+k3s+k3s+k3sv1.1.1+k3s";
	struct scratch *s = *state;
	unsigned seed = 20261123;

	for (int round = 0; round < 600; round++) {
		struct elf_spec spec = {.is32 = round % 2 != 0,
			.big_endian = round % 4 > 1,
			.form = round % 3 ? ELF_GO_INLINE : ELF_GO_POINTERS,
			.no_sections = round % 5 == 0,
			.mod = FLAGS(SET_VERSION("v1.30.4+k3s1")),
			.data = data,
			.data_len = sizeof(data)};
		struct k3sup__build build;
		size_t len;
		unsigned char *elf = elf_make(&spec, &len);

		mutate(elf, len, &seed);
		put_bytes(s, "hostile", elf, len);
		(void)read_file(s, "hostile", K3SUP__BUILD_SHA256, &build);
		k3sup__op_forgive(s->op);
		free(elf);
	}
}

static void a_file_full_of_pluses_ends_in_time(void **state)
{
	const size_t len = 8u << 20;
	struct scratch *s = *state;
	char *data = malloc(len);
	struct elf_spec spec = {.data = data, .data_len = len};
	struct k3sup__build build;
	int64_t start = k3sup__now_ms();

	assert_non_null(data);
	for (size_t i = 0; i + 16 <= len; i += 16)
		memcpy(data + i, "v1.1.1+k3s111111", 16);
	memcpy(data, WRAPPER_NAME, strlen(WRAPPER_NAME));
	assert_int_equal(read_elf(s, &spec, 0, &build), 0);
	assert_true(k3sup__now_ms() - start < 10000);
	assert_string_equal(build.version, "");
	free(data);
}

static void rewrite_until_killed(const char *path)
{
	for (char c = 0;; c++) {
		int fd = open(path, O_WRONLY | O_CLOEXEC);

		if (fd < 0 || pwrite(fd, &c, 1, 0x300) != 1)
			_exit(1);
		close(fd);
	}
}

static void a_file_that_changes_meanwhile_is_noticed(void **state)
{
	const size_t len = 16u << 20;
	struct scratch *s = *state;
	_free_ char *path = k3sup__fmt("%s/k3s", s->path);
	char *data = calloc(1, len);
	struct elf_spec spec = {.data = data, .data_len = len};
	struct k3sup__build build;
	pid_t writer;
	int r = 0;

	assert_non_null(data);
	memcpy(data + 4096, WRAPPER_NAME, strlen(WRAPPER_NAME));
	assert_int_equal(read_elf(s, &spec, 0, &build), 0);
	writer = fork();
	assert_true(writer >= 0);
	if (writer == 0)
		rewrite_until_killed(path);
	for (int i = 0; i < 200 && r != K3SUP_E_PAYLOAD_CHANGED; i++) {
		r = read_file(s, "k3s", K3SUP__BUILD_LENIENT, &build);
		assert_true(r == 0 || r == K3SUP_E_PAYLOAD_CHANGED);
	}
	assert_int_equal(kill(writer, SIGKILL), 0);
	assert_int_equal(waitpid(writer, NULL, 0), writer);
	assert_int_equal(r, K3SUP_E_PAYLOAD_CHANGED);
	assert_sentence(s, "changed while it was read");
	free(data);
}

static void a_payload_is_opened_by_any_path_of_the_caller(void **state)
{
	struct scratch *s = *state;
	_free_ char *link = k3sup__fmt("%s/link", s->path), *none = k3sup__fmt("%s/none", s->path);
	_free_ char *fifo = k3sup__fmt("%s/fifo", s->path), *below = k3sup__fmt("%s/k3s/x", s->path),
		    *dangling = k3sup__fmt("%s/dangling", s->path);
	int old = open(".", O_PATH | O_DIRECTORY | O_CLOEXEC), fd = -1;
	struct stat st;

	put_bytes(s, "k3s", "x", 1);
	assert_int_equal(symlinkat("k3s", s->fd, "link"), 0);
	assert_int_equal(symlinkat("none", s->fd, "dangling"), 0);
	assert_int_equal(mkfifoat(s->fd, "fifo", 0600), 0);
	assert_int_equal(k3sup__payload_open(s->op, link, K3SUP__TRUSTED, &fd), 0);
	assert_int_equal(fstat(fd, &st), 0);
	assert_int_equal(st.st_ino, stat_at(s->fd, "k3s").st_ino);
	close(fd);
	assert_int_equal(fchdir(s->fd), 0);
	assert_int_equal(k3sup__payload_open(s->op, "k3s", 0, &fd), 0);
	close(fd);
	assert_int_equal(fchdir(old), 0);
	close(old);
	alarm(20); /* a fifo must not make us wait for its writer */
	assert_int_equal(k3sup__payload_open(s->op, fifo, 0, &fd), K3SUP_E_PAYLOAD_NOT_FILE);
	alarm(0);
	assert_sentence(s, "a fifo");
	assert_int_equal(k3sup__payload_open(s->op, s->path, 0, &fd), K3SUP_E_PAYLOAD_NOT_FILE);
	assert_sentence(s, "a directory");
	assert_int_equal(k3sup__payload_open(s->op, none, 0, &fd), K3SUP_E_PAYLOAD_MISSING);
	assert_sentence(s, "does not exist");
	assert_int_equal(k3sup__payload_open(s->op, dangling, 0, &fd), K3SUP_E_PAYLOAD_MISSING);
	assert_int_equal(k3sup__payload_open(s->op, below, 0, &fd), K3SUP_E_PAYLOAD_MISSING);
	assert_int_equal(k3sup__payload_open(s->op, "", 0, &fd), K3SUP_E_PAYLOAD_MISSING);
	k3sup__op_forgive(s->op);
}

static void a_payload_that_others_can_write_is_untrusted_only_where_trust_is_asked_for(void **state)
{
	struct scratch *s = *state;
	_free_ char *path = k3sup__fmt("%s/open/k3s", s->path);
	int fd = -1;

	assert_int_equal(mkdirat(s->fd, "open", 0755), 0);
	put_bytes(s, "open/k3s", "x", 1);
	assert_int_equal(fchmodat(s->fd, "open", 0777, 0), 0);
	assert_int_equal(k3sup__payload_open(s->op, path, K3SUP__TRUSTED, &fd), K3SUP_E_UNTRUSTED);
	k3sup__op_forgive(s->op);
	assert_int_equal(k3sup__payload_open(s->op, path, 0, &fd), 0);
	close(fd);
}

static void constant_memory_is_enough_for_any_size(void **state)
{
	struct scratch *s = *state;
	static const char data[] = WRAPPER_NAME;
	struct elf_spec spec = {.data = data, .data_len = sizeof(data)};
	struct k3sup__build build;
	struct rusage before, after;
	int fd;

	assert_int_equal(read_elf(s, &spec, 0, &build), 0);
	fd = openat(s->fd, "k3s", O_WRONLY | O_CLOEXEC);
	assert_int_equal(ftruncate(fd, 256 << 20), 0); /* a hole */
	close(fd);
	assert_int_equal(getrusage(RUSAGE_SELF, &before), 0);
	assert_int_equal(read_file(s, "k3s", K3SUP__BUILD_SHA256, &build), 0);
	assert_int_equal(getrusage(RUSAGE_SELF, &after), 0);
	assert_int_equal(build.size, 256 << 20);
	assert_true(after.ru_maxrss - before.ru_maxrss < 16 * 1024);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, scratch_setup, scratch_teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(a_wrapper_is_read_from_its_headers_and_its_archives_name),
		TEST(old_asset_names_are_known_too),
		TEST(a_name_that_is_not_anchored_on_both_sides_is_no_archive),
		TEST(a_decoy_beside_the_archives_name_is_told_by_the_digest),
		TEST(a_name_without_an_archive_is_not_believed),
		TEST(a_damaged_archive_is_noticed),
		TEST(of_a_gzip_archive_only_the_name_is_known),
		TEST(finds_on_the_seam_of_two_pieces_are_found),
		TEST(every_machine_has_gos_name),
		TEST(a_build_for_another_machine_is_refused_where_asked),
		TEST(a_cut_file_is_never_whole),
		TEST(what_is_not_k3s_is_refused_with_its_reason),
		TEST(an_inner_program_is_known_by_what_the_linker_wrote_down),
		TEST(the_version_is_k3ss_own_and_no_components),
		TEST(a_program_inside_says_when_it_was_built),
		TEST(a_components_version_alone_is_none),
		TEST(contradicting_versions_are_absent_and_warned_about),
		TEST(the_bytes_tell_the_version_where_the_linker_does_not),
		TEST(the_digest_comes_from_the_same_pass),
		TEST(hostile_headers_are_survived),
		TEST(a_file_full_of_pluses_ends_in_time),
		TEST(a_file_that_changes_meanwhile_is_noticed),
		TEST(a_payload_is_opened_by_any_path_of_the_caller),
		TEST(a_payload_that_others_can_write_is_untrusted_only_where_trust_is_asked_for),
		TEST(constant_memory_is_enough_for_any_size),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
