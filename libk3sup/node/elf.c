/* SPDX-License-Identifier: Apache-2.0 */
#include "node/elf.h"

#include <elf.h>
#include <stdio.h>

/* What a hostile file may make us read. A k3s has about ten program headers and forty sections. */
#define MAX_PROGRAM_HEADERS 256
#define MAX_SECTIONS 4096
#define MAX_NAMES 65536

#define BUILDINFO_SECTION ".go.buildinfo"

#ifndef EM_RISCV
#define EM_RISCV 243
#endif

/* Where the fields lie; the two classes have the same fields in other places. */
#define FIELD(elf, type, name, bytes) \
	((elf)->is64 ? k3sup__elf_get(elf, (bytes) + offsetof(Elf64_##type, name), sizeof(((Elf64_##type *)0)->name)) \
		     : k3sup__elf_get(elf, (bytes) + offsetof(Elf32_##type, name), sizeof(((Elf32_##type *)0)->name)))
#define SIZE(elf, type) ((elf)->is64 ? sizeof(Elf64_##type) : sizeof(Elf32_##type))

struct source {
	int fd;
	uint64_t size;
};

uint64_t k3sup__elf_get(const struct k3sup__elf *elf, const unsigned char *bytes, size_t width)
{
	uint64_t value = 0;

	for (size_t i = 0; i < width; i++)
		value = value << 8 | bytes[elf->big_endian ? i : width - 1 - i];
	return value;
}

static bool inside(const struct source *source, uint64_t offset, uint64_t len)
{
	return offset <= source->size && len <= source->size - offset;
}

static void set_arch(struct k3sup__elf *elf, unsigned machine)
{
	static const struct {
		unsigned machine;
		bool is64;
		bool big_endian;
		const char *name;
	} names[] = {
		{EM_X86_64, true, false, "amd64"},
		{EM_AARCH64, true, false, "arm64"},
		{EM_ARM, false, false, "arm"},
		{EM_S390, true, true, "s390x"},
		{EM_RISCV, true, false, "riscv64"},
		{EM_386, false, false, "386"},
		{EM_PPC64, true, false, "ppc64le"},
		{EM_PPC64, true, true, "ppc64"},
	};

	for (size_t i = 0; i < ELEMENTSOF(names); i++)
		if (names[i].machine == machine && names[i].is64 == elf->is64 && names[i].big_endian == elf->big_endian)
			(void)snprintf(elf->arch, sizeof(elf->arch), "%s", names[i].name);
}

/* A table of headers in fresh memory; NULL with errno 0 if the file ends before it does. */
static unsigned char *read_table(const struct source *source, uint64_t offset, size_t len)
{
	_free_ unsigned char *table = NULL;
	unsigned char *ret;
	ssize_t n;

	errno = 0;
	if (!inside(source, offset, len))
		return NULL;
	table = malloc(len);
	if (table == NULL) {
		errno = ENOMEM;
		return NULL;
	}
	n = k3sup__pread_full(source->fd, table, len, (int64_t)offset);
	if (n < 0 || (size_t)n != len) {
		errno = n < 0 ? (int)-n : 0;
		return NULL;
	}
	ret = table;
	table = NULL;
	return ret;
}

static int read_segments(const struct source *source, struct k3sup__elf *elf, const unsigned char *header)
{
	uint64_t offset = FIELD(elf, Ehdr, e_phoff, header), count = FIELD(elf, Ehdr, e_phnum, header);
	size_t step = SIZE(elf, Phdr);
	_free_ unsigned char *table = NULL;

	if (count == 0 || count > MAX_PROGRAM_HEADERS || FIELD(elf, Ehdr, e_phentsize, header) != step) {
		elf->program = false;
		return 0;
	}
	table = read_table(source, offset, (size_t)count * step);
	if (table == NULL) {
		elf->truncated = true;
		return -errno;
	}
	for (size_t i = 0; i < count; i++) {
		const unsigned char *one = table + i * step;
		struct k3sup__elf_load load = {
			.offset = FIELD(elf, Phdr, p_offset, one),
			.address = FIELD(elf, Phdr, p_vaddr, one),
			.size = FIELD(elf, Phdr, p_filesz, one),
			.writable = (FIELD(elf, Phdr, p_flags, one) & PF_W) != 0,
		};

		if (!inside(source, load.offset, load.size))
			elf->truncated = true;
		else if (FIELD(elf, Phdr, p_type, one) == PT_LOAD && elf->load_count < K3SUP__ELF_LOADS)
			elf->loads[elf->load_count++] = load;
	}
	return 0;
}

static int find_buildinfo(const struct source *source, struct k3sup__elf *elf, const unsigned char *table, size_t count, size_t names_index)
{
	const unsigned char *names_header = table + names_index * SIZE(elf, Shdr);
	uint64_t offset = FIELD(elf, Shdr, sh_offset, names_header), len = FIELD(elf, Shdr, sh_size, names_header);
	_free_ unsigned char *names = NULL;

	if (len == 0 || len > MAX_NAMES || FIELD(elf, Shdr, sh_type, names_header) != SHT_STRTAB)
		return 0;
	names = read_table(source, offset, (size_t)len);
	if (names == NULL)
		return -errno;
	for (size_t i = 0; i < count; i++) {
		const unsigned char *one = table + i * SIZE(elf, Shdr);
		uint64_t name = FIELD(elf, Shdr, sh_name, one);

		if (name > len || len - name < sizeof(BUILDINFO_SECTION) || memcmp(names + name, BUILDINFO_SECTION, sizeof(BUILDINFO_SECTION)) != 0)
			continue;
		if (FIELD(elf, Shdr, sh_type, one) == SHT_NOBITS ||
			!inside(source, FIELD(elf, Shdr, sh_offset, one), FIELD(elf, Shdr, sh_size, one)))
			continue;
		elf->buildinfo_offset = FIELD(elf, Shdr, sh_offset, one);
		elf->buildinfo_size = FIELD(elf, Shdr, sh_size, one);
		break;
	}
	return 0;
}

static int read_sections(const struct source *source, struct k3sup__elf *elf, const unsigned char *header)
{
	uint64_t offset = FIELD(elf, Ehdr, e_shoff, header), count = FIELD(elf, Ehdr, e_shnum, header);
	uint64_t names_index = FIELD(elf, Ehdr, e_shstrndx, header);
	size_t step = SIZE(elf, Shdr);
	_free_ unsigned char *table = NULL;

	if (offset == 0 || count == 0)
		return 0;
	if (count > MAX_SECTIONS || FIELD(elf, Ehdr, e_shentsize, header) != step) {
		elf->program = false;
		return 0;
	}
	table = read_table(source, offset, (size_t)count * step);
	if (table == NULL) {
		elf->truncated = true;
		return -errno;
	}
	for (size_t i = 0; i < count; i++) {
		const unsigned char *one = table + i * step;
		uint64_t type = FIELD(elf, Shdr, sh_type, one);

		if (type != SHT_NULL && type != SHT_NOBITS && !inside(source, FIELD(elf, Shdr, sh_offset, one), FIELD(elf, Shdr, sh_size, one)))
			elf->truncated = true;
	}
	return names_index < count ? find_buildinfo(source, elf, table, (size_t)count, (size_t)names_index) : 0;
}

int k3sup__elf_read(int fd, uint64_t size, struct k3sup__elf *ret)
{
	struct source source = {.fd = fd, .size = size};
	unsigned char header[sizeof(Elf64_Ehdr)] = {0};
	unsigned type;
	ssize_t n;
	int r;

	*ret = (struct k3sup__elf){0};
	n = k3sup__pread_full(fd, header, sizeof(header), 0);
	if (n < 0)
		return (int)n;
	if (n < EI_NIDENT || memcmp(header, ELFMAG, SELFMAG) != 0)
		return 0;
	if ((header[EI_CLASS] != ELFCLASS32 && header[EI_CLASS] != ELFCLASS64) || (header[EI_DATA] != ELFDATA2LSB && header[EI_DATA] != ELFDATA2MSB))
		return 0;
	ret->is64 = header[EI_CLASS] == ELFCLASS64;
	ret->big_endian = header[EI_DATA] == ELFDATA2MSB;
	type = (unsigned)FIELD(ret, Ehdr, e_type, header);
	ret->program = type == ET_EXEC || type == ET_DYN;
	if ((size_t)n < SIZE(ret, Ehdr)) {
		ret->program = ret->truncated = true;
		return 0;
	}
	set_arch(ret, (unsigned)FIELD(ret, Ehdr, e_machine, header));
	r = read_segments(&source, ret, header);
	if (r < 0)
		return r;
	return read_sections(&source, ret, header);
}

bool k3sup__elf_offset(const struct k3sup__elf *elf, uint64_t address, uint64_t *ret_offset, uint64_t *ret_left)
{
	for (size_t i = 0; i < elf->load_count; i++) {
		const struct k3sup__elf_load *load = &elf->loads[i];

		if (address < load->address || address - load->address >= load->size)
			continue;
		*ret_offset = load->offset + (address - load->address);
		*ret_left = load->size - (address - load->address);
		return true;
	}
	return false;
}
