/* SPDX-License-Identifier: Apache-2.0 */
#include "cli-certs.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

struct row {
	k3sup_doc *doc;
	const char *path, *file, *cn, *issuer, *subject, *status, *not_before, *not_after;
	int64_t residual;
	char usages[64]; /* separated by commas */
};

/* Names come from certificates and paths from directories: nothing that a terminal would obey (C0, DEL, and C1 as UTF-8). */
static char *plain(char *text)
{
	for (unsigned char *c = (unsigned char *)text; *c; c++)
		if (*c < 0x20 || *c == 0x7f || (*c == 0xc2 && c[1] >= 0x80 && c[1] < 0xa0))
			*c = '?';
	return text;
}

static void put_plain(const char *text)
{
	char *copy = strdup(text);

	fputs(copy ? plain(copy) : "?", stdout);
	free(copy);
}

static bool is_leaf_file(const char *kind)
{
	return strcmp(kind, "leaf") == 0 || strcmp(kind, "listener") == 0;
}

static void read_row(struct row *row)
{
	const char *slash;
	size_t n = 0;

	row->path = cli_text(row->doc, "/path", "");
	slash = strrchr(row->path, '/');
	row->file = slash ? slash + 1 : row->path;
	row->cn = cli_text(row->doc, "/cn", "");
	row->issuer = cli_text(row->doc, "/issuer_cn", "");
	row->subject = cli_text(row->doc, "/subject", "");
	row->status = cli_text(row->doc, "/status", "");
	row->not_before = cli_text(row->doc, "/not_before", "");
	row->not_after = cli_text(row->doc, "/not_after", "");
	row->residual = cli_number(row->doc, "/residual_seconds", 0);
	row->usages[0] = '\0';
	for (int64_t i = 0; i < k3sup_doc_len(row->doc, "/usages") && n < sizeof(row->usages); i++) {
		char path[32];

		snprintf(path, sizeof(path), "/usages/%lld", (long long)i);
		n += (size_t)snprintf(row->usages + n, sizeof(row->usages) - n, "%s%s", n ? "," : "", cli_text(row->doc, path, ""));
	}
}

/* The next row of a leaf's file (or of any file), or false. */
static bool next_row(k3sup_doc *doc, int64_t *index, bool all, struct row *row)
{
	char path[40];

	k3sup_doc_unref(row->doc);
	row->doc = NULL;
	for (; *index < k3sup_doc_len(doc, "/certificates"); (*index)++) {
		snprintf(path, sizeof(path), "/certificates/%lld", (long long)*index);
		if (k3sup_doc_get(doc, path, &row->doc) == 0 && (all || is_leaf_file(cli_text(row->doc, "/kind", "")))) {
			(*index)++;
			read_row(row);
			return true;
		}
		row->doc = k3sup_doc_unref(row->doc);
	}
	return false;
}

/* ---- table ---- */

/* In the words of the library that k3s prints with (dustin/go-humanize): a month has 30 days, a year has 12 of them. */
static void humanise(int64_t seconds, char *text, size_t size)
{
	static const struct {
		int64_t below; /* exclusive */
		int64_t unit;  /* 0: the text as it is */
		const char *text;
	} steps[] = {
		{1, 0, "now"},
		{2, 0, "1 second"},
		{60, 1, "seconds"},
		{120, 0, "1 minute"},
		{3600, 60, "minutes"},
		{7200, 0, "1 hour"},
		{86400, 3600, "hours"},
		{172800, 0, "1 day"},
		{604800, 86400, "days"},
		{1209600, 0, "1 week"},
		{2592000, 604800, "weeks"},
		{5184000, 0, "1 month"},
		{31104000, 2592000, "months"},
		{46656000, 0, "1 year"},
		{62208000, 0, "2 years"},
		{1150848000, 31104000, "years"},
		{INT64_MAX, 0, "a long while"},
	};
	const char *ago = seconds < 0 ? " ago" : "";
	size_t i = 0;

	seconds = seconds < 0 ? -seconds : seconds;
	while (i + 1 < sizeof(steps) / sizeof(steps[0]) && seconds >= steps[i].below)
		i++;
	if (steps[i].unit)
		snprintf(text, size, "%lld %s%s", (long long)(seconds / steps[i].unit), steps[i].text, ago);
	else
		snprintf(text, size, "%s%s", steps[i].text, ago);
}

/* "2026-06-09T10:17:00Z" as "Jun 09, 2026 10:17 UTC" */
static void expires(const char *utc, char *text, size_t size)
{
	static const char months[] = "JanFebMarAprMayJunJulAugSepOctNovDec";
	unsigned year, month, day, hour, minute;

	if (sscanf(utc, "%4u-%2u-%2uT%2u:%2u", &year, &month, &day, &hour, &minute) == 5 && month >= 1 && month <= 12)
		snprintf(text, size, "%.3s %02u, %04u %02u:%02u UTC", months + 3 * (month - 1), day, year, hour, minute);
	else
		snprintf(text, size, "%s", utc);
}

enum { COLUMNS = 6, PADDING = 3 };

static void cells_of(const struct row *row, char cells[COLUMNS][128])
{
	snprintf(cells[0], sizeof(cells[0]), "%s", row->file);
	snprintf(cells[1], sizeof(cells[1]), "%s", row->cn);
	snprintf(cells[2], sizeof(cells[2]), "%s", row->usages);
	expires(strcmp(row->status, "NOT YET VALID") == 0 ? row->not_before : row->not_after, cells[3], sizeof(cells[3]));
	humanise(row->residual, cells[4], sizeof(cells[4]));
	snprintf(cells[5], sizeof(cells[5]), "%s", row->status);
	for (int i = 0; i < COLUMNS; i++)
		plain(cells[i]);
}

static void print_cells(char cells[COLUMNS][128], const int *widths)
{
	for (int i = 0; i < COLUMNS; i++)
		printf("%-*s%s", i + 1 < COLUMNS ? widths[i] + PADDING : 0, cells[i], i + 1 < COLUMNS ? "" : "\n");
}

static void print_problems(k3sup_doc *doc)
{
	for (int64_t i = 0; i < k3sup_doc_len(doc, "/problems"); i++) {
		k3sup_doc *problem = NULL;
		char path[40];

		snprintf(path, sizeof(path), "/problems/%lld", (long long)i);
		if (k3sup_doc_get(doc, path, &problem) == 0) {
			printf("%-5s  %-13s  ", cli_text(problem, "/remedy", ""), cli_text(problem, "/problem", ""));
			put_plain(cli_text(problem, "/path", ""));
			fputs(": ", stdout);
			put_plain(cli_text(problem, "/text", ""));
			putchar('\n');
		}
		k3sup_doc_unref(problem);
	}
	for (int64_t i = 0; i < k3sup_doc_len(doc, "/unknown"); i++) {
		char path[40];

		snprintf(path, sizeof(path), "/unknown/%lld", (long long)i);
		printf("%-5s  %-13s  ", "note", "unknown file");
		put_plain(cli_text(doc, path, ""));
		putchar('\n');
	}
}

/* How many leafs end when: 60 columns for the next 400 days, one character each; "w" marks the days in which k3s renews at its next start. */
static void print_timeline(k3sup_doc *doc)
{
	enum { WIDTH = 60, DAYS = 400 };
	const int64_t column = (int64_t)DAYS * 86400 / WIDTH, warn = cli_number(doc, "/warn_days", 120) * 86400;
	struct row row = {0};
	int ends[WIDTH] = {0}, over = 0;

	for (int64_t i = 0; next_row(doc, &i, false, &row);) {
		if (cli_number(row.doc, "/position", 0) > 0)
			continue;
		if (row.residual < 0)
			over++;
		else if (row.residual / column < WIDTH)
			ends[row.residual / column]++;
	}
	printf("\n%d expired |", over);
	for (int i = 0; i < WIDTH; i++)
		putchar(ends[i] > 9 ? '+' : ends[i] > 0 ? '0' + ends[i] : i * column < warn ? 'w' : '.');
	printf("| in %d days\n", DAYS);
}

void print_table(k3sup_doc *doc)
{
	static char head[COLUMNS][128] = {"FILENAME", "SUBJECT", "USAGES", "EXPIRES", "RESIDUAL TIME", "STATUS"};
	char cells[COLUMNS][128], dashes[COLUMNS][128];
	int widths[COLUMNS];
	struct row row = {0};

	for (int i = 0; i < COLUMNS; i++) {
		widths[i] = (int)strlen(head[i]);
		snprintf(dashes[i], sizeof(dashes[i]), "%.*s", widths[i], "----------------");
	}
	for (int64_t at = 0; next_row(doc, &at, false, &row);) {
		cells_of(&row, cells);
		for (int i = 0; i < COLUMNS; i++)
			if ((int)strlen(cells[i]) > widths[i])
				widths[i] = (int)strlen(cells[i]);
	}
	putchar('\n');
	print_cells(head, widths);
	print_cells(dashes, widths);
	for (int64_t at = 0; next_row(doc, &at, false, &row);) {
		cells_of(&row, cells);
		print_cells(cells, widths);
	}
	if (isatty(STDOUT_FILENO))
		print_timeline(doc);
	if (k3sup_doc_len(doc, "/problems") > 0 || k3sup_doc_len(doc, "/unknown") > 0)
		putchar('\n');
	print_problems(doc);
}

/* ---- text, json, yaml ---- */

void print_text(k3sup_doc *doc)
{
	struct row row = {0};

	for (int64_t i = 0; next_row(doc, &i, false, &row);) {
		printf("%s: certificate ", row.file);
		put_plain(row.cn);
		printf(" (%s) ", row.usages);
		if (strcmp(row.status, "OK") == 0)
			printf("is ok, expires at %s\n", row.not_after);
		else if (strcmp(row.status, "WARNING") == 0)
			printf("will expire within %lld days at %s\n", (long long)cli_number(doc, "/warn_days", 0), row.not_after);
		else if (strcmp(row.status, "EXPIRED") == 0)
			printf("expired at %s\n", row.not_after);
		else
			printf("is not valid before %s\n", row.not_before);
	}
	print_problems(doc);
}

static void print_usages(const struct row *row, const char *before, const char *between, const char *after)
{
	for (int64_t i = 0; i < k3sup_doc_len(row->doc, "/usages"); i++) {
		char path[32];

		snprintf(path, sizeof(path), "/usages/%lld", (long long)i);
		printf("%s%s%s%s", i ? between : "", before, cli_text(row->doc, path, ""), after);
	}
}

/* Nanoseconds, as Go keeps a duration: more than 292 years do not fit. */
static long long nanoseconds(int64_t seconds)
{
	const int64_t most = INT64_MAX / 1000000000;

	return seconds > most ? INT64_MAX : seconds < -most ? INT64_MIN : seconds * 1000000000;
}

static const char *expiry(const struct row *row)
{
	return strcmp(row->status, "NOT YET VALID") == 0 ? row->not_before : row->not_after;
}

void print_json(k3sup_doc *doc)
{
	struct row row = {0};
	bool any = false;

	for (int64_t i = 0; next_row(doc, &i, false, &row); any = true) {
		printf("%s{\"Filename\":", any ? "," : "{\"Certificates\":[");
		cli_print_quoted(stdout, row.file);
		printf(",\"Subject\":");
		cli_print_quoted(stdout, row.cn);
		printf(",\"Issuer\":");
		cli_print_quoted(stdout, row.issuer);
		printf(",\"Usages\":[");
		print_usages(&row, "\"", ",", "\"");
		printf("],\"ExpiryTime\":\"%s\",\"ResidualTime\":%lld,\"Status\":\"%s\"}", expiry(&row), nanoseconds(row.residual), row.status);
	}
	puts(any ? "]}" : "{\"Certificates\":null}");
}

/* As Go prints a duration: 8759h30m0s, and the longest that it has. */
static void print_duration(int64_t seconds)
{
	int64_t left = seconds < 0 ? -seconds : seconds;

	if (left > INT64_MAX / 1000000000)
		printf("%s", seconds < 0 ? "-2562047h47m16.854775808s" : "2562047h47m16.854775807s");
	else if (left >= 3600)
		printf("%s%lldh%lldm%llds", seconds < 0 ? "-" : "", (long long)(left / 3600), (long long)(left / 60 % 60), (long long)(left % 60));
	else if (left >= 60)
		printf("%s%lldm%llds", seconds < 0 ? "-" : "", (long long)(left / 60), (long long)(left % 60));
	else
		printf("%s%llds", seconds < 0 ? "-" : "", (long long)left);
}

void print_yaml(k3sup_doc *doc)
{
	struct row row = {0};
	bool any = false;

	for (int64_t i = 0; next_row(doc, &i, false, &row); any = true) {
		printf("%s- filename: ", any ? "" : "certificates:\n");
		cli_print_quoted(stdout, row.file);
		printf("\n  subject: ");
		cli_print_quoted(stdout, row.cn);
		printf("\n  issuer: ");
		cli_print_quoted(stdout, row.issuer);
		printf("\n  usages:\n");
		print_usages(&row, "  - ", "\n", "");
		printf("\n  expirytime: %s\n  residualtime: ", expiry(&row));
		print_duration(row.residual);
		printf("\n  status: %s\n", row.status);
	}
	if (!any)
		puts("certificates: []");
}

/* ---- metrics ---- */

static void print_label(const char *name, const char *text)
{
	printf("%s=\"", name);
	for (; *text; text++) {
		if (*text == '\\' || *text == '"')
			printf("\\%c", *text);
		else if (*text == '\n')
			printf("\\n");
		else
			putchar(*text);
	}
	putchar('"');
}

void print_metrics(k3sup_doc *doc)
{
	struct row row = {0};

	puts("# HELP k3s_certificate_expiration_seconds Remaining lifetime on the certificate.");
	puts("# TYPE k3s_certificate_expiration_seconds gauge");
	for (int64_t i = 0; next_row(doc, &i, true, &row);) {
		printf("k3s_certificate_expiration_seconds{");
		print_label("subject", row.subject);
		putchar(',');
		print_label("usages", row.usages);
		putchar(',');
		print_label("file", row.path);
		printf(",position=\"%lld\",", (long long)cli_number(row.doc, "/position", 0));
		print_label("status", row.status);
		printf("} %lld\n", (long long)row.residual);
	}
	puts("# HELP k3sup_certificate_problems What is wrong with certificates and keys beyond their dates, by what has to be done.");
	puts("# TYPE k3sup_certificate_problems gauge");
	for (size_t k = 0; k < 3; k++) {
		static const char *const remedies[] = {"note", "start", "act"};
		int64_t count = 0;

		for (int64_t i = 0; i < k3sup_doc_len(doc, "/problems"); i++) {
			char path[48];

			snprintf(path, sizeof(path), "/problems/%lld/remedy", (long long)i);
			count += strcmp(cli_text(doc, path, ""), remedies[k]) == 0;
		}
		printf("k3sup_certificate_problems{remedy=\"%s\"} %lld\n", remedies[k], (long long)count);
	}
}

void print_ca_check(k3sup_doc *doc)
{
	print_problems(doc);
	puts(cli_number(doc, "/takes", 0) ? "A server would take it." : "A server would not take it.");
}

void print_backups(k3sup_doc *doc)
{
	for (int64_t i = 0; i < k3sup_doc_len(doc, "/backups"); i++) {
		k3sup_doc *one = NULL;
		char path[40];

		snprintf(path, sizeof(path), "/backups/%lld", (long long)i);
		if (k3sup_doc_get(doc, path, &one) < 0)
			continue;
		if (strcmp(cli_text(one, "/kind", ""), "k3s") == 0)
			printf("%-24s  %s\n", cli_text(one, "/name", ""), cli_text(one, "/text", ""));
		else if (cli_number(one, "/whole", 0))
			printf("%-24s  %s, %lld files\n", cli_text(one, "/name", ""), cli_text(one, "/made", ""),
				(long long)k3sup_doc_len(one, "/files"));
		else
			printf("%-24s  damaged\n", cli_text(one, "/name", ""));
		k3sup_doc_unref(one);
	}
}

void print_restored(k3sup_doc *doc)
{
	if (k3sup_doc_len(doc, "/restored") == 0)
		printf("The live certificates are those of %s.\n", cli_text(doc, "/from", ""));
	else
		printf("Put back %lld files of %s. What was live before is in %s.\n", (long long)k3sup_doc_len(doc, "/restored"),
			cli_text(doc, "/from", ""), cli_text(doc, "/kept", "no backup: there was nothing"));
}
