/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The zoo: tables of real processes, generated from rules. See README.md beside.
 */
#ifndef K3SUP_TESTS_ZOO_H
#define K3SUP_TESTS_ZOO_H

#include "../unit/node/fake.h"

#define HOME "/home/stranger"
#define CONTAINER "/srv/container"
#define NOBODY 65534
#define MAX_MEMBERS 64

/* One process of a table, and what has to come of it. */
struct member {
	pid_t pid;
	pid_t group; /* whom to end with it */
	int pidfd;
	bool genuine; /* must be found */
	bool partner; /* the other one of a --log pair, or a supervisor: may or may not end with a genuine one */
	char what[80];
};

struct table {
	uint64_t random;
	struct member members[MAX_MEMBERS];
	size_t count;
	const char *installed; /* the path that an upgrade has to replace */
	bool swaps;            /* an upgrade is tried, too */
	unsigned supervisor;
	unsigned vantage; /* where the reader stands */
	char story[1024]; /* what was put in, for people */
};

/* generate.c */
void zoo_use_program(const char *dir); /* what fake_build() made */
uint64_t zoo_random(struct table *t);
static inline bool one_in(struct table *t, unsigned n)
{
	return zoo_random(t) % n == 0;
}
void zoo_place(struct table *t);     /* where k3s is installed, and how it is supervised; first of all */
void zoo_genuine(struct table *t);   /* none, one, or a server and an agent */
void zoo_disguises(struct table *t); /* what only looks like it */
#define ZOO_OLD " embed/" HASH1 ".tar.zst v1.30.4+k3s1 "
#define ZOO_NEW " embed/" HASH2 ".tar.zst v1.30.5+k3s1 "

/* table.c: starts what was specified and puts it into the table. */
struct member *zoo_start(struct table *t, const struct fake_spec *spec, const char *what);
/* The only child of a process, and its place in the table. */
struct member *zoo_child(struct table *t, const struct member *parent, const char *what);
void zoo_clear(struct table *t);

/* mutants.c: mistakes that the zoo must catch. */
enum zoo_mutant { MUTANT_NONE, MUTANT_ARGV, MUTANT_TARGET, MUTANT_OWNER, MUTANT_NAMESPACE, MUTANT_TRUST, MUTANTS };
extern enum zoo_mutant zoo_mutant;
extern const char *const zoo_mutants[MUTANTS];

#endif
