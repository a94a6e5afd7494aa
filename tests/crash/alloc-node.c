/* SPDX-License-Identifier: Apache-2.0 */
/* The node of alloc.c: a k3s that runs, its payload, images and certificates; and what may be there after each kind of scenario. */
#include "alloc.h"

#include "../unit/rooms.h"

#include "base/strv.h"

#define STATE "/var/lib/k3sup"
#define IMAGES DATA_DIR "/agent/images"
#define KEPT DATA_DIR "/agent/.k3sup-images"
#define VERSION1 INSTALLED "-" V1
#define VERSION2 INSTALLED "-" V2
/* Data-dirs with certificates: as they were first, and new ones beside a backup of those (in its state directory). */
#define FIRST "/template/first"
#define SECOND "/template/second"

static const char *const authorities[] = {"server/tls/client-ca", "server/tls/server-ca", "server/tls/request-header-ca",
	"server/tls/etcd/server-ca", "server/tls/etcd/peer-ca"};
static const char *const leafs[] = {"server/tls/client-admin", "server/tls/serving-kube-apiserver", "server/tls/etcd/client", "agent/client-kubelet"};

struct node_files files;
static char mounted[] = "/tmp/k3sup-alloc-XXXXXX";
static struct scratch scratch;
static struct unit unit = {.stubborn = true};
static char *installed_dir;

/* ---- making ---- */

#define run(...) \
	do { \
		_free_ char *command_ = k3sup__fmt(__VA_ARGS__); \
		assert_int_equal(system(command_), 0); /* NOLINT: programs are the point */ \
	} while (0)

void node_make(void)
{
	_free_ char *config = NULL, *config_dir = NULL, *systemctl = NULL, *run_dir = NULL, *usr_bin = NULL;

	assert_int_equal(fake_build(NULL), 0);
	assert_non_null(mkdtemp(mounted));
	if (mount("tmpfs", mounted, "tmpfs", 0, "mode=0755") < 0) /* goes with the namespace */
		sandbox_skip("mount(2) is not allowed here");
	/* Below the mount: a root that is mounted itself is another node's as soon as no k3s is seen, see k3sup__node_sees_processes(). */
	(void)snprintf(scratch.path, sizeof(scratch.path), "%s/node", mounted);
	assert_int_equal(mkdir(scratch.path, 0755), 0);
	put_node(&scratch);
	config_dir = below(&scratch, "/etc/rancher/k3s");
	make_dirs(config_dir);
	config = below(&scratch, "/etc/rancher/k3s/config.yaml");
	put_file(AT_FDCWD, config, "# of a test\nwrite-kubeconfig-mode: \"0644\"\nnode-label:\n  - \"a=b\"\n", 0600);
	files.root = scratch.path;
	files.payload = below(&scratch, PAYLOAD);
	files.unpacker = below(&scratch, "/payload/unpacker");
	run("cc -static -O1 -D_GNU_SOURCE -o %s/unpacker " UNPACKER, fake_program);
	install_program("unpacker", scratch.path, "/payload/unpacker", WRAPPER(HASH2, V2), NULL);
	run("echo " HASH2 " >%s/unpacker", scratch.path);
	files.images[0] = below(&scratch, "/payload/a.tar");
	files.images[1] = below(&scratch, "/payload/b.tar");
	put_file(AT_FDCWD, files.images[0], "new", 0644);
	put_file(AT_FDCWD, files.images[1], "new", 0644);
	files.gzipped = k3sup__fmt("%s.gz", files.payload);
	files.sums = k3sup__fmt("%s.sums", files.payload);
	installed_dir = below(&scratch, "/usr/local/bin");
	run("gzip -1 -k %s && h=$(sha256sum <%s | cut -c1-64) && for k in k3s k3s-arm64 k3s-armhf k3s-s390x k3s-riscv64; do echo \"$h  "
	    "$k\"; done >%s",
		files.payload, files.payload, files.sums);
	/* A service manager to ask: chrooted, so nothing that is linked dynamically would start there. */
	systemctl = k3sup__fmt("%s/systemctl", fake_program);
	usr_bin = below(&scratch, "/usr/bin");
	run_dir = below(&scratch, "/run/systemd/system");
	make_dirs(usr_bin);
	make_dirs(run_dir);
	run("printf '#include <stdio.h>\\nint main(void) { return "
	    "puts(\"LoadState=loaded\\\\nActiveState=inactive\\\\nSubState=dead\\\\nMainPID=0\\\\n"
	    "Restart=always\\\\nKillMode=process\\\\nType=notify\\\\nUnitFileState=enabled\\\\nNeedDaemonReload=no\\\\nResult="
	    "success\\\\nNRestarts=0\") < 0; }\\n' "
	    ">%s.c && cc -static -O1 -o %s.tmp %s.c && install -m 0755 %s.tmp %s/systemctl",
		systemctl, systemctl, systemctl, systemctl, usr_bin);
	node_put_back(READS);
	unit_start(&scratch, &unit);
}

static void make_leafs(const char *data_dir)
{
	for (size_t i = 0; i < ELEMENTSOF(leafs); i++)
		run("cd %s && f=%s ca=%s && mkdir -p agent && openssl ecparam -name prime256v1 -genkey -noout -out $f.key && "
		    "openssl req -new -key $f.key -subj /CN=leaf -out csr && openssl x509 -req -in csr -CA $ca.crt -CAkey $ca.key "
		    "-set_serial 7 -days 365 "
		    "-out $f.crt 2>said && rm csr said",
			data_dir, leafs[i], authorities[i < 3 ? (size_t[]){0, 1, 3}[i] : 0]);
}

void node_stop(int (*play)(const struct scenario *scenario))
{
	_free_ char *first = below(&scratch, FIRST), *second = below(&scratch, SECOND), *data = below(&scratch, DATA_DIR),
		    *state = below(&scratch, STATE);

	unit_stop(&unit);
	unit.pid = 0;
	make_dirs(first);
	make_dirs(second);
	files.authorities = below(&scratch, FIRST "/server");
	files.prepared = below(&scratch, SECOND "/server");
	for (size_t i = 0; i < ELEMENTSOF(authorities); i++)
		run("cd %s && ca=%s && mkdir -p ${ca%%/*} && openssl ecparam -name prime256v1 -genkey -noout -out $ca.key && "
		    "openssl req -new -x509 -key $ca.key -days 3650 -subj /CN=ca%zu -addext keyUsage=critical,keyCertSign -out $ca.crt",
			first, authorities[i], i);
	make_leafs(first);
	node_put_back(RETIRES);
	assert_int_equal(play(&scenario_retire), 1);
	make_leafs(data);
	run("cp -a %s/server %s/agent %s && cp -a %s/certs %s && ls %s/certs >%s/name", data, data, second, state, second, state, second);
	run("test $(wc -l <%s/name) = 1", second);
	{
		_free_ char *name = k3sup__fmt("%s/name", second);

		assert_int_equal(k3sup__read_file(AT_FDCWD, name, 100, &files.backup, NULL), 0);
		files.backup[strcspn(files.backup, "\n")] = '\0';
	}
}

void node_remove(void)
{
	char **all[] = {&files.payload, &files.unpacker, &files.gzipped, &files.sums, &files.images[0], &files.images[1],
		&files.authorities, &files.prepared, &files.backup, &installed_dir};

	if (unit.pid > 0)
		unit_stop(&unit);
	(void)fake_remove(NULL);
	(void)umount(mounted);
	(void)rmdir(mounted);
	for (size_t i = 0; i < ELEMENTSOF(all); i++)
		free(*all[i]);
}

static void put_certificates(enum kind kind)
{
	_free_ char *from = below(&scratch, kind == RESTORES ? SECOND : FIRST), *data = below(&scratch, DATA_DIR), *state = below(&scratch, STATE);

	if (kind != RETIRES && kind != RESTORES)
		return;
	run("cp -a %s/server %s/agent %s", from, from, data);
	if (kind == RESTORES)
		run("mkdir -p -m 0700 %s && cp -a %s/certs %s", state, from, state);
}

void node_put_back(enum kind kind)
{
	static const char *const theirs[] = {STATE, DATA_DIR "/agent", DATA_DIR "/server"};
	_free_ char *in_place = below(&scratch, IMAGES), *image = below(&scratch, IMAGES "/a.tar"), *link = below(&scratch, INSTALLED);

	nftw(installed_dir, scratch_remove, 16, FTW_DEPTH | FTW_PHYS);
	for (size_t i = 0; i < ELEMENTSOF(theirs); i++) {
		_free_ char *dir = below(&scratch, theirs[i]);

		(void)nftw(dir, scratch_remove, 16, FTW_DEPTH | FTW_PHYS);
	}
	if (kind == VERSIONS || kind == VERSIONS_BACK) {
		put_wrapper(&scratch, VERSION1, 1);
		assert_int_equal(symlink("k3s-" V1, link), 0);
	} else {
		put_wrapper(&scratch, INSTALLED, 1);
	}
	put_certificates(kind);
	if (kind == UNPACKS)
		run("cd %s" DATA_DIR "/data && rm -rf " HASH2 " " HASH2 ".* " HASH2 "-tmp && mkdir -p " HASH2 "/bin && : >" HASH2
		    "/bin/k3s",
			scratch.path);
	make_dirs(in_place);
	put_file(AT_FDCWD, image, "old", 0644);
}

/* ---- looking ---- */

/* "old", "new", "" if there is none, "?" for anything else. */
static const char *image_text(const char *path)
{
	static const char *const known[] = {"old", "new"};
	_free_ char *whole = below(&scratch, path), *text = NULL;

	if (k3sup__read_file(AT_FDCWD, whole, 100, &text, NULL) < 0)
		return access(whole, F_OK) < 0 ? "" : "?";
	for (size_t i = 0; i < ELEMENTSOF(known); i++)
		if (k3sup__streq(text, known[i]))
			return known[i];
	return "?";
}

/* From old to new (stage), from new to new without the old one (commit), or back to it. The image that was not there before is not taken away again. */
static const char *look_at_images(enum kind kind, int status)
{
	const char *a = image_text(IMAGES "/a.tar"), *b = image_text(IMAGES "/b.tar"), *kept = image_text(KEPT "/a.tar.k3sup-backup");
	size_t count = count_beside(&scratch, IMAGES "/a.tar");

	if (!*a || *a == '?' || *b == '?' || k3sup__streq(b, "old"))
		return "an image is torn or gone";
	if (count != 1u + (*b != '\0'))
		return "something lies beside the images";
	if (kind != COMMITS && k3sup__streq(a, "new") && !k3sup__streq(kept, "old"))
		return "the old image is lost";
	if (kind == COMMITS && !k3sup__streq(a, "new"))
		return "the new image is lost";
	if (status < 0)
		return NULL;
	if (!k3sup__streq(a, kind == UNSTAGES ? "old" : "new") || !k3sup__streq(b, "new") || (kind != STAGES && *kept) ||
		(kind == STAGES && count_beside(&scratch, KEPT "/a.tar.k3sup-backup") != 1))
		return "success was told, and the images are not there, or something else is";
	return NULL;
}

static const char *look_at_versions(enum kind kind, int status)
{
	_free_ char *link = below(&scratch, INSTALLED), *second = below(&scratch, VERSION2);
	char text[64];
	ssize_t n = readlink(link, text, sizeof(text) - 1);
	bool old, made = access(second, F_OK) == 0;

	text[n > 0 ? n : 0] = '\0';
	old = k3sup__streq(text, "k3s-" V1);
	if (!old && !k3sup__streq(text, "k3s-" V2))
		return "the link leads to neither version";
	if (!is_content(&scratch, VERSION1, 1))
		return "the old version is not what it was";
	if (made ? !is_content(&scratch, VERSION2, 2) : !old || kind == VERSIONS_BACK)
		return "the new version is not whole";
	if (count_beside(&scratch, INSTALLED) != 2u + made)
		return "something lies beside the versions";
	if (status >= 0 && old != (kind == VERSIONS_BACK))
		return "success was told, and the link leads to the other version";
	return old && made && kind == VERSIONS ? "it failed, and left the new version" : NULL;
}

/* 0: neither, 1: as it was first, 2: as it was made later, 3: it is not there. what: ".crt", ".key", or both, which have to fit. */
static unsigned which_file(const char *name, const char *what)
{
	static const char *const all[] = {FIRST, SECOND};
	_free_ char *path = k3sup__fmt("%s" DATA_DIR "/%s%s", scratch.path, name, what), *text = NULL;

	if (access(path, F_OK) < 0)
		return 3;
	assert_int_equal(k3sup__read_file(AT_FDCWD, path, 1 << 20, &text, NULL), 0);
	for (unsigned i = 0; i < ELEMENTSOF(all); i++) {
		_free_ char *other = k3sup__fmt("%s%s/%s%s", scratch.path, all[i], name, what), *its = NULL;

		if (k3sup__read_file(AT_FDCWD, other, 1 << 20, &its, NULL) == 0 && k3sup__streq(text, its))
			return i + 1;
	}
	return 0;
}

static const char *look_at_certificates(enum kind kind, int status, bool again)
{
	_free_ char *litter = k3sup__fmt("ls -A %s" STATE "/certs 2>/dev/null | grep -q '^\\.'", scratch.path);

	for (size_t i = 0; i < ELEMENTSOF(authorities); i++)
		if (which_file(authorities[i], ".crt") != 1 || which_file(authorities[i], ".key") != 1)
			return "an authority is not what it was";
	for (size_t i = 0; i < ELEMENTSOF(leafs); i++) {
		unsigned crt = which_file(leafs[i], ".crt"), key = which_file(leafs[i], ".key");

		if (!crt || !key || (key != 3 && key != crt))
			return "a key is there that does not fit its certificate";
		if (status > 0 && (crt != key || crt != (kind == RETIRES ? 3 : 1)))
			return "success was told, and it is not so";
	}
	return again && system(litter) == 0 ? "something is left of a cut backup" : NULL; /* NOLINT */
}

static const char *look_at_files(enum kind kind, int status)
{
	size_t count = count_beside(&scratch, INSTALLED);
	bool old = is_content(&scratch, INSTALLED, 1), new = is_content(&scratch, INSTALLED, 2);

	if (!old && !new)
		return "the installed file is neither the old nor the new one";
	if (kind == ROLLS_BACK || kind == LISTS)
		return count != 2 || !is_content(&scratch, BACKUP, 1) ? "the backup is not there, or something lies beside it"
			: kind == LISTS && !new                       ? "the installed file was replaced"
			: kind == ROLLS_BACK &&status >= 0 && !old    ? "success was told, and the old file is not installed"
								      : NULL;
	if (new &&kind != INSTALLS)
		return "the installed file was replaced";
	if (old && count != 1)
		return "the old file is installed, and something lies beside it";
	if (old && kind == INSTALLS && status >= 0)
		return "success was told, and the old file is installed";
	if (new && (count != 2 || !is_content(&scratch, BACKUP, 1)))
		return "the new file is installed without its backup, or something lies beside it";
	return NULL;
}

static const char *look_at_unpacked(int status)
{
	static const char *const left[] = {DATA_DIR "/data/" HASH2 ".k3sup-torn", DATA_DIR "/data/" HASH2 "-tmp"};

	if (status >= 0 && stat_below(&scratch, BIN2 "/k3s-server").st_nlink == 0)
		return "success was told, and what is unpacked is torn";
	for (size_t i = 0; status >= 0 && i < ELEMENTSOF(left); i++)
		if (stat_below(&scratch, left[i]).st_nlink > 0)
			return "success was told, and something lies beside what is unpacked";
	return NULL;
}

const char *node_look(enum kind kind, int status, bool again)
{
	_free_ char *dir = below(&scratch, STATE), *lock = k3sup__fmt("%s/lock", dir);
	const char *bad = kind == VERSIONS || kind == VERSIONS_BACK ? look_at_versions(kind, status) : look_at_files(kind, status);

	if (!bad && access(lock, F_OK) == 0 && count_beside(&scratch, STATE "/lock") > 3u + (kind == RETIRES || kind == RESTORES))
		bad = "something is left in the state directory";
	if (!bad && (kind == STAGES || kind == COMMITS || kind == UNSTAGES))
		bad = look_at_images(kind, status);
	if (!bad && kind == UNPACKS)
		bad = look_at_unpacked(status);
	if (!bad && (kind == RETIRES || kind == RESTORES))
		bad = look_at_certificates(kind, status, again);
	return bad;
}
