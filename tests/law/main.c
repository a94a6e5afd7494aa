/* SPDX-License-Identifier: Apache-2.0 */
/*
 * law run SEED COUNT [JOBS]     so many histories, in so many processes (2); the first one that breaks the law is shrunk and printed as a script
 * law hash SEED COUNT           a line for each: its seed and the hash of the tree it ends in
 * law mutant NAME SEED COUNT    histories until this mistake is found out; exit 1 if it is not
 * law replay FILE [NAME]        a script, with a mistake
 * law print SEED                a history as a script
 *
 * TMPDIR says where the trees are (/dev/shm).
 */
#include "law.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

static void set_up(enum mutant mutant)
{
	const char *base = getenv("TMPDIR");

	machine = mmap(NULL, sizeof(*machine), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (machine == MAP_FAILED)
		abort();
	(void)snprintf(machine->top, sizeof(machine->top), "%s/k3sup-law-XXXXXX", base && strlen(base) < 40 ? base : "/dev/shm");
	if (!mkdtemp(machine->top)) {
		perror(machine->top);
		exit(2);
	}
	(void)snprintf(machine->root, sizeof(machine->root), "%s/root", machine->top);
	machine->mutant = mutant;
	machine->seconds = 1800000000;
	machine->boottime_ms = 1000000;
	machine->armed = NEVER;
	node_prepare();
	decoded_prepare();
}

static void tear_down(void)
{
	node_remove(machine->top);
	(void)munmap(machine, sizeof(*machine));
}

struct tally {
	unsigned histories, cuts, most_cuts, strict, broken;
};

/* Each of every `of`, beginning with `first`. False: one broke the law. */
static bool run_some(uint64_t seed, unsigned count, unsigned first, unsigned of, struct tally *t)
{
	for (unsigned i = first; i < count; i += of) {
		struct history h = history_draw(seed + i);
		struct verdict v = judge(&h);

		t->histories++;
		t->cuts += v.cuts;
		t->most_cuts = v.cuts > t->most_cuts ? v.cuts : t->most_cuts;
		t->strict += v.strict;
		if (v.complaint) {
			printf("# %s (seed %llu)\n%s", v.complaint, (unsigned long long)h.seed, v.differences ? v.differences : "");
			history_print(&h);
			verdict_clear(&v);
			shrink(h);
			t->broken++;
			return false;
		}
		verdict_clear(&v);
	}
	return true;
}

static int run_all(uint64_t seed, unsigned count, unsigned jobs)
{
	struct tally *all = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0), sum = {0};
	bool failed = false;
	int how;

	if (all == MAP_FAILED || jobs < 1 || jobs > 16)
		return 2;
	for (unsigned i = 0; i < jobs; i++)
		if (fork() == 0) {
			bool held;

			set_up(HONEST);
			held = run_some(seed, count, i, jobs, &all[i]);
			tear_down();
			exit(!held);
		}
	while (wait(&how) > 0)
		failed |= how != 0;
	for (unsigned i = 0; i < jobs; i++) {
		sum.histories += all[i].histories;
		sum.cuts += all[i].cuts;
		sum.strict += all[i].strict;
		sum.broken += all[i].broken;
	}
	printf("law: %u histories from seed %llu, %u cuts, %u with one goal, %u broken\n", sum.histories, (unsigned long long)seed,
		sum.cuts, sum.strict, sum.broken);
	return failed;
}

static int run_hashes(uint64_t seed, unsigned count)
{
	bool failed = false;

	set_up(HONEST);
	for (unsigned i = 0; i < count; i++) {
		struct history h = history_draw(seed + i);
		struct verdict v = judge(&h);

		printf("%llu %016llx %s\n", (unsigned long long)h.seed, (unsigned long long)v.hash, v.complaint ? v.complaint : "holds");
		failed |= v.complaint != NULL;
		verdict_clear(&v);
	}
	tear_down();
	return failed;
}

static enum mutant mutant_of(const char *name)
{
	for (enum mutant i = HONEST; i < MUTANTS; i++)
		if (strcmp(mutant_names[i], name) == 0)
			return i;
	(void)fprintf(stderr, "no mutant %s\n", name);
	exit(2);
}

/* Without the mistake the same history keeps the law. */
static bool is_its_fault(const struct history *h, enum mutant mutant)
{
	struct verdict v;
	bool holds;

	machine->mutant = HONEST;
	v = judge(h);
	machine->mutant = mutant;
	holds = v.complaint == NULL;
	verdict_clear(&v);
	return holds;
}

static int find_out(enum mutant mutant, uint64_t seed, unsigned count)
{
	for (unsigned i = 0; i < count; i++) {
		struct history h = history_draw(seed + i);
		struct verdict v = judge(&h);

		if (!v.complaint) {
			verdict_clear(&v);
			continue;
		}
		if (!is_its_fault(&h, mutant)) {
			printf("history %llu breaks the law without a mistake, too\n", (unsigned long long)h.seed);
			verdict_clear(&v);
			return 1;
		}
		printf("%s: found out by history %llu: %s\n", mutant_names[mutant], (unsigned long long)h.seed, v.complaint);
		verdict_clear(&v);
		if (getenv("LAW_SHRINK"))
			shrink(h);
		return 0;
	}
	printf("%s: not found out by %u histories from seed %llu\n", mutant_names[mutant], count, (unsigned long long)seed);
	return 1;
}

static int replay(const char *file)
{
	struct history h;
	struct verdict v;
	char *text = NULL;
	bool holds;

	if (k3sup__read_file(AT_FDCWD, file, 1 << 20, &text, NULL) < 0 || !history_read(text, &h)) {
		(void)fprintf(stderr, "%s cannot be read as a script\n", file);
		return 2;
	}
	free(text);
	v = judge(&h);
	holds = v.complaint == NULL;
	printf("%u cuts: %s\n%s", v.cuts, holds ? "the law holds" : v.complaint, !holds && v.differences ? v.differences : "");
	verdict_clear(&v);
	return !holds;
}

int main(int argc, char **argv)
{
	const char *what = argc > 2 ? argv[1] : "";
	int r = 2;

	if (strcmp(what, "run") == 0 && argc >= 4)
		return run_all(strtoull(argv[2], NULL, 10), (unsigned)strtoul(argv[3], NULL, 10),
			argc > 4 ? (unsigned)strtoul(argv[4], NULL, 10) : 2);
	if (strcmp(what, "hash") == 0 && argc >= 4)
		return run_hashes(strtoull(argv[2], NULL, 10), (unsigned)strtoul(argv[3], NULL, 10));
	if (strcmp(what, "mutant") == 0 && argc >= 5) {
		enum mutant mutant = mutant_of(argv[2]);

		set_up(mutant);
		r = find_out(mutant, strtoull(argv[3], NULL, 10), (unsigned)strtoul(argv[4], NULL, 10));
		tear_down();
	} else if (strcmp(what, "replay") == 0) {
		set_up(argc > 3 ? mutant_of(argv[3]) : HONEST);
		r = replay(argv[2]);
		tear_down();
	} else if (strcmp(what, "print") == 0) {
		struct history h = history_draw(strtoull(argv[2], NULL, 10));

		history_print(&h);
		r = 0;
	}
	return r;
}
