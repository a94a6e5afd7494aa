/* SPDX-License-Identifier: Apache-2.0 */
#include "node/build.h"

#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <sys/stat.h>
#include <sys/utsname.h>
#include <unistd.h>

#include "base/root.h"
#include "node/archive.h"
#include "node/gobuild.h"
#include "node/version.h"
#include "node/warn.h"

/* The architecture of this very program, as Go names it. */
#if defined(__x86_64__)
#define OWN_ARCH "amd64"
#elif defined(__aarch64__)
#define OWN_ARCH "arm64"
#elif defined(__arm__)
#define OWN_ARCH "arm"
#elif defined(__s390x__)
#define OWN_ARCH "s390x"
#elif defined(__riscv) && __riscv_xlen == 64
#define OWN_ARCH "riscv64"
#elif defined(__i386__)
#define OWN_ARCH "386"
#elif defined(__powerpc64__) && __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
#define OWN_ARCH "ppc64le"
#else
#define OWN_ARCH ""
#endif

struct reading {
	struct k3sup__elf elf;
	struct k3sup__gobuild go;
	struct k3sup__scan scan;
};

static const char *kernel_arch(const char *machine)
{
	static const char *const names[][2] = {
		{"x86_64", "amd64"},
		{"aarch64", "arm64"},
		{"s390x", "s390x"},
		{"riscv64", "riscv64"},
		{"ppc64le", "ppc64le"},
	};

	for (size_t i = 0; i < ELEMENTSOF(names); i++)
		if (k3sup__streq(machine, names[i][0]))
			return names[i][1];
	if (k3sup__startswith(machine, "arm"))
		return "arm";
	if (machine[0] == 'i' && k3sup__endswith(machine, "86"))
		return "386";
	return "";
}

/* The kernel's own machine, or the one this program is for: a 32-bit userland on a 64-bit kernel runs both. */
bool k3sup__build_runs_here(const char *arch)
{
	struct utsname name;

	if (arch[0] == '\0' || uname(&name) < 0)
		return false;
	return k3sup__streq(arch, kernel_arch(name.machine)) || k3sup__streq(arch, OWN_ARCH);
}

static bool same_file_state(const struct stat *a, const struct stat *b)
{
	return a->st_size == b->st_size && a->st_mtim.tv_sec == b->st_mtim.tv_sec && a->st_mtim.tv_nsec == b->st_mtim.tv_nsec &&
		a->st_ctim.tv_sec == b->st_ctim.tv_sec && a->st_ctim.tv_nsec == b->st_ctim.tv_nsec;
}

static bool same_version(const char *a, const char *b)
{
	struct k3sup__version va, vb;

	return k3sup__version_parse(a, strlen(a), &va) == 0 && k3sup__version_parse(b, strlen(b), &vb) == 0 && k3sup__version_order(&va, &vb) == 0;
}

/* The linker's record first, the bytes second; they must not contradict each other, and neither itself. */
static void set_version(k3sup_op *op, const char *shown, const struct reading *reading, struct k3sup__build *build)
{
	const struct k3sup__scan *scan = &reading->scan;
	const struct k3sup__gobuild *go = &reading->go;
	bool agree = scan->version_count == 0;
	const char *version = go->version;

	for (size_t i = 0; i < scan->version_count; i++)
		agree = agree || same_version(go->version, scan->versions[i]);
	if (version[0] == '\0' && !go->conflict && scan->version_count == 1 && !scan->many_versions) {
		version = scan->versions[0];
		agree = true;
	}
	if (go->conflict || (!agree && (version[0] != '\0' || scan->version_count > 1)) || (version[0] == '\0' && scan->many_versions)) {
		build->contradicts = true;
		k3sup__warn(op, "the version of %s is not believed: it holds several (%s and %s)", shown,
			version[0] != '\0' ? version : scan->versions[0],
			scan->version_count > 0 ? scan->versions[scan->version_count - 1] : "another one");
		return;
	}
	(void)snprintf(build->version, sizeof(build->version), "%s", version);
	if (version == go->version)
		memcpy(build->commit, go->commit, sizeof(build->commit));
}

static void set_facts(k3sup_op *op, const char *shown, const struct reading *reading, struct k3sup__build *build)
{
	const struct k3sup__gobuild *go = &reading->go;
	const struct k3sup__scan *scan = &reading->scan;

	memcpy(build->arch, reading->elf.arch, sizeof(build->arch));
	memcpy(build->go, go->go, sizeof(build->go));
	memcpy(build->built, go->built, sizeof(build->built));
	if (reading->elf.program && scan->name_count > 0) {
		build->names_archive = true;
		k3sup__archive_believe(scan, build);
	} else if (reading->elf.program && go->found && !go->wrapper_path) {
		bool by_bytes = go->has_kine && scan->version_count == 1 && !scan->many_versions;

		build->inner = go->inner_path || go->sets_k3s || by_bytes;
	}
	if (build->wrapper || build->inner)
		set_version(op, shown, reading, build);
}

static int verdict(k3sup_op *op, const char *shown, unsigned flags, const struct reading *reading, const struct k3sup__build *build)
{
	if (flags & K3SUP__BUILD_LENIENT)
		return 0;
	if (!reading->elf.program)
		return k3sup__fail(op, K3SUP_E_PAYLOAD_NOT_K3S, "%s is not a program for Linux (ELF), so it is not k3s", shown);
	if (reading->elf.truncated)
		return k3sup__fail(op, K3SUP_E_PAYLOAD_TRUNCATED, "%s is cut off: its headers promise more than its %" PRIu64 " bytes",
			shown, build->size);
	if (build->names_archive && !build->wrapper)
		return k3sup__archive_judge(op, shown, &reading->scan);
	if (!build->wrapper && !build->inner)
		return k3sup__fail(op, K3SUP_E_PAYLOAD_NOT_K3S, "%s is a program, but nothing in it says that it is k3s", shown);
	if ((flags & K3SUP__BUILD_HOST_ARCH) && !k3sup__build_runs_here(build->arch))
		return k3sup__fail(op, K3SUP_E_PAYLOAD_ARCH, "%s is for %s, which does not run on this machine", shown,
			build->arch[0] != '\0' ? build->arch : "an unknown architecture");
	return 0;
}

static int read_all(k3sup_op *op, int fd, const char *shown, unsigned flags, const struct k3sup__tap *tap, struct reading *reading,
	struct k3sup__build *build)
{
	_cleanup_(k3sup__digest_freep) struct k3sup__digest *digest = NULL, *archive = NULL;
	_free_ unsigned char *buffer = malloc(K3SUP__SCAN_BUFFER);
	int r;

	if (buffer == NULL)
		return -ENOMEM;
	r = k3sup__elf_read(fd, build->size, &reading->elf);
	if (r == 0 && reading->elf.program)
		r = k3sup__gobuild_read(fd, &reading->elf, buffer, K3SUP__SCAN_BUFFER, &reading->go);
	if (r < 0)
		return r;
	if ((flags & K3SUP__BUILD_LENIENT) == 0 && (!reading->elf.program || reading->elf.truncated))
		return 0; /* the verdict is known */
	if (flags & K3SUP__BUILD_SHA256)
		r = k3sup__digest_new(&digest);
	if (r == 0 && (flags & K3SUP__BUILD_ARCHIVE))
		r = k3sup__digest_new(&archive);
	if (r < 0)
		return r;
	reading->scan.digest = digest;
	reading->scan.archive = archive;
	reading->scan.tap = tap;
	reading->scan.skip_start = reading->go.start;
	reading->scan.skip_end = reading->go.end;
	r = k3sup__scan(op, fd, build->size, buffer, &reading->scan);
	if (r < 0)
		return r;
	if (reading->scan.size != build->size)
		return K3SUP_E_PAYLOAD_CHANGED;
	r = k3sup__archive_resolve(op, fd, buffer, &reading->scan);
	if (r < 0)
		return r;
	set_facts(op, shown, reading, build);
	return digest != NULL ? k3sup__digest_finish(digest, build->sha256) : 0;
}

int k3sup__build_read_fd(k3sup_op *op, int fd, const char *shown, unsigned flags, struct k3sup__build *ret)
{
	return k3sup__build_read_tapped(op, fd, shown, flags, NULL, ret);
}

int k3sup__build_read_tapped(k3sup_op *op, int fd, const char *shown, unsigned flags, const struct k3sup__tap *tap, struct k3sup__build *ret)
{
	struct reading reading = {0};
	struct stat before, after;
	int r;

	*ret = (struct k3sup__build){0};
	if (fstat(fd, &before) < 0)
		return k3sup__fail(op, -errno, "%s cannot be examined: %s", shown, strerror(errno));
	if (!S_ISREG(before.st_mode))
		return k3sup__fail(op, K3SUP_E_PAYLOAD_NOT_FILE, "%s is not a regular file", shown);
	ret->size = (uint64_t)before.st_size;
	if (ret->size == 0 && (flags & K3SUP__BUILD_LENIENT) == 0)
		return k3sup__fail(op, K3SUP_E_PAYLOAD_EMPTY, "%s is empty", shown);
	r = read_all(op, fd, shown, flags, tap, &reading, ret);
	if (r == K3SUP_E_CANCELLED || r == K3SUP_E_CALLBACK || r == K3SUP_E_TIMEOUT)
		return r;
	if (r < 0 && r != K3SUP_E_PAYLOAD_CHANGED)
		return k3sup__fail(op, r, "%s cannot be read: %s", shown, k3sup_strerror(r));
	if (fstat(fd, &after) < 0 || !same_file_state(&before, &after))
		r = K3SUP_E_PAYLOAD_CHANGED;
	if (r < 0)
		return k3sup__fail(op, r, "%s changed while it was read", shown);
	return verdict(op, shown, flags, &reading, ret);
}

static char *absolute(const char *path)
{
	_free_ char *cwd = NULL;

	if (path[0] == '/')
		return strdup(path);
	cwd = getcwd(NULL, 0);
	return cwd != NULL ? k3sup__fmt("%s/%s", cwd, path) : NULL;
}

static int open_place(k3sup_op *op, const char *path, const struct k3sup__place *place, int *ret_fd)
{
	const char *kind = "not a regular file";
	int fd;

	if (place->fd < 0)
		return k3sup__fail(op, K3SUP_E_PAYLOAD_MISSING, "%s does not exist", path);
	if (S_ISDIR(place->st.st_mode))
		kind = "a directory";
	else if (S_ISFIFO(place->st.st_mode))
		kind = "a fifo";
	if (!S_ISREG(place->st.st_mode))
		return k3sup__fail(op, K3SUP_E_PAYLOAD_NOT_FILE, "%s is %s", path, kind);
	fd = k3sup__place_open(place, O_RDONLY);
	if (fd == -ESTALE)
		return k3sup__fail(op, K3SUP_E_PAYLOAD_CHANGED, "%s was replaced while it was opened", path);
	if (fd < 0)
		return k3sup__fail(op, K3SUP_E_PAYLOAD_MISSING, "%s cannot be opened: %s", path, k3sup_strerror(fd));
	*ret_fd = fd;
	return 0;
}

int k3sup__payload_open(k3sup_op *op, const char *path, unsigned trust_flags, int *ret_fd)
{
	_cleanup_(k3sup__place_clear) struct k3sup__place place = K3SUP__PLACE_NONE;
	_cleanup_(k3sup__root_close) struct k3sup__root root = {.fd = -1};
	_free_ char *whole = NULL;
	int r;

	if (path[0] == '\0')
		return k3sup__fail(op, K3SUP_E_PAYLOAD_MISSING, "the payload's path is empty");
	whole = absolute(path);
	if (whole == NULL)
		return k3sup__fail(op, -errno, "%s cannot be made an absolute path: %s", path, strerror(errno));
	r = k3sup__root_open(op, "/", &root);
	if (r < 0)
		return r;
	r = k3sup__root_find(op, &root, whole, trust_flags, &place);
	if (r == 0)
		return open_place(op, path, &place, ret_fd);
	switch (r) {
	case -ENOENT:
	case -ENOTDIR:
	case -ELOOP:
	case -EACCES:
	case -ENAMETOOLONG:
		return k3sup__fail(op, K3SUP_E_PAYLOAD_MISSING, "%s cannot be reached: %s", path, k3sup_strerror(r));
	default:
		return k3sup__fail(op, r, "%s cannot be used: %s", path, k3sup_strerror(r));
	}
}

k3sup__json *k3sup__build_json(const struct k3sup__build *build)
{
	k3sup__json *json = k3sup__json_object();
	const struct {
		const char *key;
		const char *text;
	} texts[] = {
		{"sha256", build->sha256},
		{"arch", build->arch},
		{"kind",
			build->wrapper         ? "wrapper"
				: build->inner ? "inner"
					       : ""},
		{"version", build->version},
		{"said_version", build->said},
		{"commit", build->commit},
		{"built", build->built},
		{"go", build->go},
		{"asset_hash", build->asset_hash},
		{"asset_check", build->asset_check ? build->asset_check : ""},
	};

	k3sup__json_set_int(json, "size", (int64_t)build->size);
	for (size_t i = 0; i < ELEMENTSOF(texts); i++)
		if (texts[i].text[0] != '\0')
			k3sup__json_set_str(json, texts[i].key, texts[i].text);
	return json;
}

/* The name of the archive where there is one; a bare program has only its size and version. */
bool k3sup__build_is(const k3sup__json *json, const struct k3sup__build *build)
{
	const char *hash = k3sup__json_text(json, "asset_hash"), *version = k3sup__json_text(json, "version");

	if (k3sup__json_number(json, "size", -1) != (int64_t)build->size)
		return false;
	if (build->asset_hash[0])
		return hash && k3sup__streq(hash, build->asset_hash);
	return !hash && k3sup__streq(version ? version : "", build->version);
}
