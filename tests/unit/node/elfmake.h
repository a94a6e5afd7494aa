/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Small ELF files of every class and byte order, with Go build information of both forms. Only the parts that a reader of headers looks at.
 */
#ifndef K3SUP_TESTS_UNIT_NODE_ELFMAKE_H
#define K3SUP_TESTS_UNIT_NODE_ELFMAKE_H

#include <elf.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "../frame.h"

#define ELF_ADDRESS 0x10000u
#define ELF_HASH FRAME_HASH1
#define ELF_HASH2 FRAME_HASH2

enum elf_go { ELF_GO_NONE, ELF_GO_INLINE, ELF_GO_POINTERS };

struct elf_spec {
	unsigned machine; /* 0: x86-64 */
	bool is32;
	bool big_endian;
	bool no_sections;
	enum elf_go form;
	const char *go;  /* "go1.22.5" */
	const char *mod; /* the lines between the sentinels */
	bool no_archive; /* else data that names one is followed by it */
	const void *data;
	size_t data_len;
};

struct bytes {
	unsigned char *at;
	size_t len;
	bool big_endian;
	size_t word;
};

static inline void put(struct bytes *b, const void *data, size_t len)
{
	b->at = realloc(b->at, b->len + len + 1);
	if (b->at == NULL)
		abort();
	if (len > 0)
		memcpy(b->at + b->len, data, len);
	b->len += len;
}

static inline void put_number(struct bytes *b, uint64_t value, size_t width)
{
	unsigned char raw[8];

	for (size_t i = 0; i < width; i++)
		raw[b->big_endian ? width - 1 - i : i] = (unsigned char)(value >> (8 * i));
	put(b, raw, width);
}

static inline void put_at(struct bytes *b, size_t at, uint64_t value, size_t width)
{
	struct bytes number = {.big_endian = b->big_endian};

	put_number(&number, value, width);
	memcpy(b->at + at, number.at, width);
	free(number.at);
}

static inline void put_text(struct bytes *b, const char *text)
{
	put(b, text, strlen(text));
}

static inline void put_align(struct bytes *b, size_t to)
{
	while (b->len % to != 0)
		put(b, "", 1);
}

static inline void put_varint(struct bytes *b, size_t value)
{
	for (; value >= 0x80; value >>= 7)
		put_number(b, (value & 0x7f) | 0x80, 1);
	put_number(b, value, 1);
}

/* An inline record, or one with two pointers to string headers behind it. */
static inline void put_go(struct bytes *b, const struct elf_spec *spec)
{
	static const char start[16] = "0w\xaf\x0c\x92t\x08\x02"
				      "A\xe1\xc1\x07\xe6\xd6\x18\xe6";
	static const char end[16] = "\xf9"
				    "2C1\x86\x18 r\x00\x82"
				    "B\x10"
				    "A\x16\xd8\xf2";
	const char *go = spec->go != NULL ? spec->go : "go1.22.5", *mod = spec->mod != NULL ? spec->mod : "";
	size_t mod_len = strlen(mod) + 32, record = b->len, header;

	put_text(b, "\xff Go buildinf:");
	put_number(b, b->word, 1);
	put_number(b, spec->form == ELF_GO_INLINE ? 2 : b->big_endian, 1);
	if (spec->form == ELF_GO_INLINE) {
		put(b, (const char[16]){0}, 16);
		put_varint(b, strlen(go));
		put_text(b, go);
		put_varint(b, mod_len);
	} else {
		put_number(b, ELF_ADDRESS + record + 32, b->word);
		put_number(b, ELF_ADDRESS + record + 32 + 2 * b->word, b->word);
		while (b->len < record + 32)
			put(b, "", 1);
		header = record + 32 + 4 * b->word;
		put_number(b, ELF_ADDRESS + header, b->word);
		put_number(b, strlen(go), b->word);
		put_number(b, ELF_ADDRESS + header + strlen(go), b->word);
		put_number(b, mod_len, b->word);
		put_text(b, go);
	}
	put(b, start, 16);
	put_text(b, mod);
	put(b, end, 16);
}

static inline void put_section(struct bytes *b, unsigned name, unsigned type, size_t offset, size_t len)
{
	put_number(b, name, 4);
	put_number(b, type, 4);
	put_number(b, 0, b->word);
	put_number(b, ELF_ADDRESS + offset, b->word);
	put_number(b, offset, b->word);
	put_number(b, len, b->word);
	put_number(b, 0, 4);
	put_number(b, 0, 4);
	put_number(b, 16, b->word);
	put_number(b, 0, b->word);
}

static inline void put_segment(struct bytes *b, size_t len)
{
	put_number(b, PT_LOAD, 4);
	if (b->word == 8)
		put_number(b, PF_R | PF_W, 4);
	put_number(b, 0, b->word);
	put_number(b, ELF_ADDRESS, b->word);
	put_number(b, ELF_ADDRESS, b->word);
	put_number(b, len, b->word);
	put_number(b, len, b->word);
	if (b->word == 4)
		put_number(b, PF_R | PF_W, 4);
	put_number(b, 4096, b->word);
}

/* The whole file, to be freed with free(). */
static inline unsigned char *elf_make(const struct elf_spec *spec, size_t *ret_len)
{
	static const char names[] = "\0.go.buildinfo\0.data\0.shstrtab";
	struct bytes b = {.big_endian = spec->big_endian, .word = spec->is32 ? 4 : 8};
	unsigned char frame[FRAME_LEN];
	size_t header = spec->is32 ? sizeof(Elf32_Ehdr) : sizeof(Elf64_Ehdr), segment_at, go_at, data_at, names_at, sections_at;

	put_text(&b, ELFMAG);
	put_number(&b, spec->is32 ? ELFCLASS32 : ELFCLASS64, 1);
	put_number(&b, spec->big_endian ? ELFDATA2MSB : ELFDATA2LSB, 1);
	put_number(&b, EV_CURRENT, 1);
	put(&b, (const char[9]){0}, 9);
	put_number(&b, ET_EXEC, 2);
	put_number(&b, spec->machine != 0 ? spec->machine : EM_X86_64, 2);
	put_number(&b, EV_CURRENT, 4);
	put_number(&b, 0, b.word);
	put_number(&b, header, b.word);
	put_number(&b, 0, b.word); /* e_shoff */
	put_number(&b, 0, 4);
	put_number(&b, header, 2);
	put_number(&b, spec->is32 ? sizeof(Elf32_Phdr) : sizeof(Elf64_Phdr), 2);
	put_number(&b, 1, 2);
	put_number(&b, spec->is32 ? sizeof(Elf32_Shdr) : sizeof(Elf64_Shdr), 2);
	put_number(&b, spec->no_sections ? 0 : 4, 2);
	put_number(&b, spec->no_sections ? 0 : 3, 2);
	segment_at = b.len;
	put_segment(&b, 0);
	put_align(&b, 16);
	go_at = b.len;
	if (spec->form != ELF_GO_NONE)
		put_go(&b, spec);
	data_at = b.len;
	put(&b, spec->data, spec->data_len);
	if (!spec->no_archive && frame_for(spec->data, spec->data_len, frame))
		put(&b, frame, sizeof(frame));
	names_at = b.len;
	put(&b, names, sizeof(names));
	put_align(&b, 16);
	sections_at = b.len;
	if (!spec->no_sections) {
		put_section(&b, 0, SHT_NULL, 0, 0);
		put_section(&b, 1, SHT_PROGBITS, go_at, data_at - go_at);
		put_section(&b, 15, SHT_PROGBITS, data_at, names_at - data_at);
		put_section(&b, 21, SHT_STRTAB, names_at, sizeof(names));
		put_at(&b, spec->is32 ? 32 : 40, sections_at, b.word);
	}
	put_at(&b, segment_at + (spec->is32 ? 16 : 32), names_at, b.word); /* p_filesz */
	*ret_len = b.len;
	return b.at;
}

#endif
