/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The two-run law. A node of real files, a scripted machine (clock, processes, service manager), and the library between them, whose calls the linker leads here (--wrap):
 * they are counted, and a run is cut at one of them. Whatever was cut, one uninterrupted run has to come to what the same history comes to without cuts.
 *
 * Unpacking ahead is left out: it executes the payload in a chroot, and what is to be proven of it is what that program writes and what is believed of it. tests/scenarios/test_unpack.py,
 * tests/crash and tests/powercut do that with one that runs.
 */
#ifndef K3SUP_TESTS_LAW_LAW_H
#define K3SUP_TESTS_LAW_LAW_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/stat.h>
#include <sys/types.h>

#include <k3sup.h>

#include "base/util.h"

#define DATA_DIR "/var/lib/rancher/k3s"
#define BIN_DIR "/usr/local/bin"
#define INSTALLED BIN_DIR "/k3s"
#define STATE_DIR "/var/lib/k3sup"
#define BUILDS 3
#define IMAGES 2
#define KEYS 2
#define MOST_EVENTS 20
#define MOST_LIVES 512
#define MOST_STEPS 4096 /* of what was written and may be lost */
#define EXIT_CUT 77     /* how a run ends that was cut */
#define EXIT_HUNG 78
#define NEVER INT64_MAX
#define BEFORE_WRITE "before-write" /* the commands; they are run by hooks.c */
#define BEFORE_STOP "before-stop"

enum mutant {
	HONEST,
	NO_DIR_SYNC,
	NO_FILE_SYNC,
	RENAME_BY_UNLINK,
	NO_SWEEP,
	ENTRY_NOT_CLOSED,
	LOCK_NOT_TAKEN,
	RESTART_FORGOTTEN,
	IN_PLACE,
	CERTIFICATE_FIRST,
	KEY_BACK_FIRST,
	NO_BACKUP_OF_LEAFS,
	ENTRY_NOT_OPENED,
	BACKUP_GONE_EARLY,
	NO_KEY,
	STOP_NOT_NOTED,
	GUARD_NOT_ARMED,
	FAILURE_FORGOTTEN,
	LEFT_DYING,
	ASKED_ONCE,
	MUTANTS
};
extern const char *const mutant_names[MUTANTS];

/* ---- what happens ---- */

enum what {
	UPGRADE, /* these are runs of the library */
	SWAP,
	ROLLBACK,
	SWAP_BACK,
	STAGE,
	UNSTAGE,
	RETIRE,
	RESTORE,
	ROTATE,
	MARK,    /* a step of the caller's own is done */
	REPLACE, /* and these are done by others */
	STOP,
	START,
	REBOOT,
	FLIP_CURRENT,
	DROP_BACKUP,
	WAIT,
	WHATS
};

struct event {
	enum what what;
	unsigned build;    /* 1... BUILDS: of the payload, or what is put in place by hand */
	unsigned restart;  /* K3SUP_RESTART_* */
	unsigned images;   /* a bit for each */
	unsigned key;      /* 1... KEYS: new certificates, under this one; 0: none are wanted */
	unsigned cut;      /* before this call; 0: not at all */
	bool half;         /* a write is cut in its middle */
	bool power;        /* REBOOT: the power was cut */
	unsigned lost;     /* then: which of what was not on disk is lost, a seed */
	bool locked;       /* another run holds the lock meanwhile */
	unsigned rollback; /* K3SUP_ROLLBACK_*: UPGRADE of a build that fails */
	bool retry;        /* also one that has failed before */
};

/* How the node is made. */
struct setup {
	bool versions;   /* k3s is a link to k3s-VERSION */
	bool managed;    /* a service manager restarts k3s; else it is signalled, and its supervisor starts it */
	bool certs;      /* it is a server with certificates */
	bool rotates;    /* which runs replace while it runs */
	bool images;     /* there are images already */
	bool attributes; /* the k3s file has an owner, mode and attributes of its own */
	unsigned pause;  /* ms until a supervisor starts k3s again */
	bool hooks;      /* upgrades have commands to ask */
	unsigned dies;   /* a k3s of this build ends after each start; 0: of none */
	unsigned lives;  /* so many ms after it */
	unsigned slow;   /* a k3s of this build takes minutes to unpack at each start; 0: of none */
};

struct history {
	uint64_t seed;
	struct setup setup;
	struct event events[MOST_EVENTS];
	unsigned count;
};

/* ---- the machine: shared by the runs, which are processes of their own ---- */

struct life { /* a k3s process */
	int pid;
	unsigned build, boot;
	int64_t start, up_at; /* up_at: until then it unpacks */
	bool ended;
};

enum step_kind { CREATED, RENAMED, LINKED, UNLINKED, MADE_DIR, REMOVED_DIR, WRITTEN };

struct step { /* of what was changed and may not be on disk yet */
	enum step_kind kind;
	ino_t dir, file;
	int64_t size; /* WRITTEN: so much of it is on disk */
	mode_t mode;
	bool synced, shadowed;
	char from[160], to[160];
};

struct machine {
	char top[64]; /* directory of this worker: root/, shadow/, payload/, pool/ */
	char root[96];
	struct setup setup;
	int64_t boottime_ms, seconds; /* virtual */
	int64_t armed;                /* what the library's timer is set to */
	unsigned boot, next_pid;
	struct life lives[MOST_LIVES];
	unsigned lives_count;
	int running;                        /* of lives, -1: none */
	int64_t start_at, guard_at, end_at; /* end_at: of the k3s that runs */
	bool stopped;                       /* by the operator */
	unsigned starts, leafs;             /* leafs: so often some were made anew */

	enum mutant mutant;
	bool counting; /* a run of the library is on */
	unsigned calls, cut;
	bool half, logging;
	unsigned publications;      /* new names that stay, records of the journal, k3s's ends and starts */
	unsigned stop_after;        /* cut behind so many of them; UINT32_MAX: not */
	bool durable;               /* and they are on disk then */
	unsigned asked, ever_asked; /* HOOK_*, in this run, and in any */
	unsigned installed;         /* before it, likewise below */
	int ran;
	bool asked_late;

	/* crash/driver-rotate.c keeps what is above in a file */
	struct step steps[MOST_STEPS];
	unsigned steps_count, shadows;

	int status; /* of the last run */
	bool open_entry;
	char state[32];
};
extern struct machine *machine;

void machine_new(const struct setup *setup);
void machine_tick(void); /* what is due happens */
void machine_stop(void);
void machine_start(void);
void machine_reboot(void);
void machine_wait(int64_t ms);
unsigned machine_build(void); /* that runs; 0: none */
unsigned machine_wants(void); /* likewise, also if it is about to start it only */
void machine_end(void);       /* of the k3s that runs */
bool machine_forgotten(void); /* k3s does not run, nobody wanted that, and nothing will start it */

/* A moment at which a run may be cut. True: now, after half of what it was about to do. */
bool point(void);
void cut_now(void) __attribute__((noreturn));
/* What was not on disk when the power went; lost: a seed. */
void lose(unsigned lost);
void forget_steps(void);

/* ---- the node ---- */

struct tree_text {
	char *text;           /* a line for each object */
	uint64_t hash, touch; /* touch: of inodes and times, too */
};

void node_prepare(void); /* once for each worker: payloads and a template */
void node_make(const struct setup *setup);
void node_remove(const char *path); /* with all that is in it */
struct tree_text node_look(void);
unsigned node_installed(void);            /* which build, 0: none that is whole */
unsigned node_build_of(const char *path); /* likewise, of any path below the top */
void node_start_k3s(unsigned build);      /* what a start does with files */
void node_replace(unsigned build);        /* by hand */
void node_drop_backup(void);
void node_flip_current(void);
char *node_cert_backup(void);                                               /* the name of the oldest one, owned, or NULL */
char *node_complaint(void);                                                 /* what must never be, owned; NULL: all is well */
char *node_litter(const char *text);                                        /* in a listing; a complaint, owned, or NULL */
uint64_t node_hash_of_undone(const char *text, bool images);                /* without what a run that was undone may have taken or left */
void node_forget_litter(struct tree_text *tree, const char *const *places); /* but there */
extern char build_hashes[BUILDS + 1][65];
extern const char *const build_versions[BUILDS + 1];

/* ---- files (files.c, builds.c, leafs.c) ---- */

struct file {
	unsigned char *at;
	size_t len;
};
extern struct file builds[BUILDS + 1];

void need(bool condition, const char *what); /* or it ends here */
char *at(const char *inside);                /* a path of ours, owned */
struct file read_whole(const char *path);
void write_whole(const char *path, const struct file *f, mode_t mode);
void write_text(const char *path, const char *text, mode_t mode);
void make_dirs_of(const char *path);
void copy_tree(const char *from, const char *to);
bool is_there(const char *path);
bool same_file(const char *a, const char *b);

void make_build(unsigned build);
void leafs_prepare(void);
void leafs_start(void);
bool is_leaf(const char *path);
char *leafs_complaint(void);
/* Those that were there when so many had been made anew have to be replaced by now. */
char *leafs_not_new(unsigned since);

/* What runs have to decode is decoded once (decoded.c). Who does not prepare that decodes as ever. */
void decoded_prepare(void);
void decode_wanted(void);       /* by runs that are over */
extern bool decoded_remembered; /* false: all is decoded anew */

/* ---- histories ---- */

struct history history_draw(uint64_t seed);
void history_print(const struct history *h);
bool history_read(const char *text, struct history *ret);
bool only_upgrades(const struct history *h); /* nobody else has changed k3s's file or stopped it; and all are to do the same where one fails */
bool is_run(enum what what);
bool is_proof(const struct event *e); /* it ends with a proof of what runs */
bool rotates(const struct event *e);  /* it wants new certificates */

/* ---- runs ---- */

k3sup_node *open_node(k3sup_ctx **ctx);
void look_at_state(k3sup_node *node);                    /* what the next operator would be told */
bool run_in_a_process(const struct event *e, bool last); /* true if it was cut */
void hooks_begin(void);                                  /* before a run */
char *hooks_complaint(void);                             /* after it; owned, or NULL */

/* ---- judging ---- */

struct outcome {
	struct tree_text tree;
	unsigned build;
	int status;
	char state[32];
	bool open_entry;
	char *complaint;          /* on the way */
	unsigned struck;          /* a bit for each event that was cut */
	unsigned marked;          /* a bit for each key of which it was said */
	unsigned begun[KEYS + 1]; /* 1 + how often leafs had been made anew when a rotation under this key was begun first */
	bool refused;             /* the build that dies has failed */
	bool restored;            /* old certificates were put back on purpose */
	unsigned publications[MOST_EVENTS];
};

enum variant { FULL, DROPPED, PREFIX, SYNCED, PROMISED, UNDONE, UNDONE_BEHIND };

/*
 * Plays it as it is (variants NULL), or with the runs that were cut run through (FULL), left out (DROPPED), or cut behind what they had published (PREFIX;
 * SYNCED: and a power cut takes nothing of it back; PROMISED: behind one more, which stood already when it was cut, or after which nobody can know whether it did what it had said it would).
 * UNDONE: left out, and who goes back then stays where he is, and proves what is there if he is to; UNDONE_BEHIND: the same behind the cut, as images are none of k3sup_swap_rollback()'s business.
 */
struct outcome play(const struct history *h, const struct outcome *real, const enum variant *variants);
/* The last run once more: nothing is left to do. A complaint, owned, or NULL. */
char *play_again(const struct event *last, const struct outcome *real);
void outcome_clear(struct outcome *outcome);

struct verdict {
	char *complaint;   /* NULL: the law holds */
	char *differences; /* from each history without cuts that it was held against */
	uint64_t hash;
	unsigned cuts;
	bool strict;
};
struct verdict judge(const struct history *h);
void verdict_clear(struct verdict *verdict);
/* The same complaint from less; prints what is left as a script. */
void shrink(struct history h);

#endif
