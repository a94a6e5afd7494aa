/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The journal: what cannot be seen on disk or in the process table. One record a line, "CRC32 JSON\n" (eight hex digits of zlib's
 * crc32 over the JSON text), appended and fsynced. A torn last line is the trace of a cut and is dropped at the next append; a
 * damaged line in the middle is reported and skipped. Bounded: past a size the file is rewritten durably with the newest records
 * that fit in half of it, and all records of open entries (the newest of these, if even they are too many). The file stays below
 * 256 KiB, a record below 64 KiB (-EFBIG).
 *
 * Records are objects. The journal itself reads two of their keys: "op" (an id made by the writer) and "event" ("open" begins an
 * entry, "close" ends it).
 */
#ifndef K3SUP_BASE_JOURNAL_H
#define K3SUP_BASE_JOURNAL_H

#include "base/op.h"

#define K3SUP__JOURNAL_NAME "journal"

/* Appends one record (consumed); adds "at" (unix seconds) and "boot_id". dirfd: the state directory. Under the node's lock. */
int k3sup__journal_append(k3sup_op *op, int dirfd, k3sup__json *record) _must_check_;
/*
 * All records, oldest first, as an array; an empty one if there is no journal. ret_damaged: how many lines could not be read.
 * Changes nothing.
 */
int k3sup__journal_read(k3sup_op *op, int dirfd, k3sup__json **ret_records, unsigned *ret_damaged) _must_check_;
/* The newest "open" record without a "close" of the same "op", borrowed from records; NULL if there is none. verb: only of that "verb"; NULL: of any. */
k3sup__json *k3sup__journal_open_entry(const k3sup__json *records, const char *verb);

#endif
