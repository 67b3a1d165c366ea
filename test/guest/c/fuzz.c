// SPDX-License-Identifier: MIT
/*
 * Random system calls on the devices and their dma-bufs:
 *
 *   fuzz [--seed N] [--calls N] [--processes N] [--threads N] [--json]
 *
 * The same seed makes the same plan: the numbers of each call come from the
 * seed, from its process and thread and from how many these have made before.
 * What the others have open or mapped by then is up to the processors. With one
 * process and one thread a run is repeated exactly, and `digest` shows it. Ends with 0, with 1 where
 * something was found (which is said, with the call and the thread), with 2
 * where it could not begin, and with 3 where no call returned for a minute.
 *
 * The parent keeps --processes workers alive, each of which makes some hundred
 * to some thousand calls in 1 or --threads threads that share descriptors and
 * mappings; some are killed on the way, and they fork. Nothing of a
 * worker but its arena (below) is ever mapped over, and only the kernel touches
 * the arena, so that a fault is an EFAULT and a signal is a finding.
 *
 * Some of the workers are auditors: one thread, no memory shared with other
 * workers. They know what they may see: zeroes, and what they wrote themselves.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <linux/capability.h>
#include <linux/dma-buf.h>
#include <linux/dma-heap.h>
#include <linux/udmabuf.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/personality.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "../../../kernel-modules/include/uapi/dmabuf/cma_mem.h"
#include "../../../kernel-modules/include/uapi/dmabuf/exporter.h"
#include "../../../kernel-modules/include/uapi/dmabuf/ion.h"
#include "../../../kernel-modules/include/uapi/dmabuf/ion_legacy.h"
#include "drm.h"

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

#define MAX_PROCESSES	32
#define MAX_THREADS	16
#define MAX_ROWS	112
#define MAX_ERRNO	133	/* EHWPOISON: what is above it never leaves the kernel */
#define MAX_FINDINGS	16

/* Descriptors of the fuzzer itself are up here, where no random number reaches. */
#define OWN_FDS		900
#define WILD_FDS	800

/* Wall time without any call that returns. */
#define PATIENCE_S	60
#define PROGRESS_S	30
/* For what the kernel frees a moment later. */
#define SETTLE_S	10

enum kind {
	NONE,
	EXPORTER, ION, CMA, HEAP,				/* the devices */
	BUF_EXPORTER, BUF_ION, BUF_CMA, BUF_HEAP, BUF_FOREIGN,	/* dma-bufs */
	SYNC_FILE, PIPE, SOCKET, MEMFD, EVENTFD, DEV_NULL, UDMABUF, EPOLL, PATH,
};

#define A(kind)		(1u << (kind))
#define DEVICES		(A(EXPORTER) | A(ION) | A(CMA) | A(HEAP))
#define OUR_BUFS	(A(BUF_EXPORTER) | A(BUF_ION) | A(BUF_CMA) | A(BUF_HEAP))
#define BUFS		(OUR_BUFS | A(BUF_FOREIGN))
/* The nodes of dma-heaps are ION's. */
#define ION_BUFS	(A(BUF_ION) | A(BUF_HEAP))
#define FOREIGN		(A(SYNC_FILE) | A(PIPE) | A(SOCKET) | A(MEMFD) | A(EVENTFD) | A(DEV_NULL) | \
			 A(UDMABUF) | A(EPOLL) | A(PATH))
/* Memory of an auditor alone; the exporter's page is everybody's. */
#define PRIVATE_KINDS	(A(BUF_ION) | A(BUF_CMA) | A(BUF_HEAP) | A(CMA))

struct row {
	atomic_uint made, succeeded, errors[MAX_ERRNO + 1];
	atomic_ullong us;	/* the call and what was done for it */
};

/* What a thread is in; the children of a thread have one of their own. */
struct record {
	atomic_int row;
	atomic_int inside;
	atomic_int pid;
	atomic_ullong a, b, c;
};

/* All that outlives a worker. */
struct shared {
	atomic_uint next;		/* calls begun */
	atomic_uint returned;
	atomic_uint finished;		/* threads, children: progress too */
	atomic_int stop;
	atomic_uint forks, child_kills, audits;
	atomic_uint findings;
	char messages[MAX_FINDINGS][512];
	uint64_t digest;
	atomic_uint calls_of[MAX_PROCESSES];
	atomic_int suicide[MAX_PROCESSES];
	struct record records[MAX_PROCESSES][2 * MAX_THREADS];
	struct row rows[MAX_ROWS];
};

static struct shared *sh;
static size_t page;
static uint64_t seed = 1;
static unsigned int calls = 20000;
static unsigned int processes = 4;
static unsigned int threads = 3;
static bool repeatable;		/* one process, one thread */
static int transport[2];	/* descriptors pass from worker to worker */
static uint32_t secured;	/* the heaps of ION whose buffers nobody maps, but where CUSTOM lets them */
static uintptr_t kernel_address;

/* A thread, or the child it forked. */
struct me {
	uint64_t seed, rng;
	unsigned int number;
	unsigned int made;	/* calls */
	bool in_child;
	char *area;		/* where arguments lie: see enum place */
	int scratch;		/* a memfd: moves bytes from and to the arena */
	int pipe[2];
	int last_closed;
	struct record *record;
	int row;
	uint64_t x, y;
	pid_t child;
	bool child_killed;
	unsigned int kills_at;	/* calls made when it is time for the child; 0: it ends by itself */
};

static __thread struct me *self;

/* The worker. Threads share this without a lock: wrong numbers are welcome. */
struct region {
	uint32_t id, offset, len;
};

struct slot {
	atomic_int fd;
	atomic_int kind;
	atomic_uint size;
	struct region regions[4];
	atomic_uint region_count;
};

#define DEVICE_SLOTS	10
#define SLOTS		44
#define EXTENTS		32
#define MAPPINGS	16
#define HANDLES		8
#define ARENA_PAGES	1024

static struct worker {
	unsigned int slot, serial;
	bool auditor, no_rawio;
	unsigned int threads;
	unsigned int lifetime;
	unsigned int dies_at;
	unsigned char tag;
	int card;
	atomic_flag importing;
	atomic_int go;
	char *arena;
} w;

static struct slot slots[SLOTS];
static atomic_uint next_device, next_other;
static unsigned char page_kinds[ARENA_PAGES];
static struct {
	atomic_uint first, pages;
} extents[EXTENTS];
static atomic_uint next_extent;
/* What was mapped of ION's buffers lately, and by which descriptor. */
static struct mapping {
	atomic_uint first, pages, pgoff;
	atomic_int fd;
} mappings[MAPPINGS];
static atomic_uint next_mapping;
/* Those of ION that were given lately: by which client, and a descriptor of the buffer, or -1. */
static struct {
	atomic_int handle, client, fd;
} ion_handles[32];
static atomic_uint next_ion_handle;
static atomic_uint handles[HANDLES];
static atomic_uint next_handle;

static double now(void)
{
	struct timespec time;

	clock_gettime(CLOCK_MONOTONIC, &time);
	return time.tv_sec + time.tv_nsec / 1e9;
}

/* Random numbers (splitmix64). */

static uint64_t mix(uint64_t a, uint64_t b)
{
	uint64_t z = a + b * 0x9e3779b97f4a7c15 + 0x9e3779b97f4a7c15;

	z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9;
	z = (z ^ (z >> 27)) * 0x94d049bb133111eb;
	return z ^ (z >> 31);
}

static uint64_t any(struct me *me)
{
	me->rng += 0x9e3779b97f4a7c15;
	return mix(me->rng, 0);
}

static unsigned int below(struct me *me, unsigned int n)
{
	return (any(me) >> 16) % n;
}

static bool chance(struct me *me, unsigned int percent)
{
	return below(me, 100) < percent;
}

static uint64_t edge(struct me *me)
{
	const uint64_t edges[] = {
		0, 1, 2, 3, 4, page - 1, page, page + 1, 2 * page, 0xffff, 0x10000, 0x100000, 0x7fffffff,
		0x80000000, 0x80000001, 0xffffffff - page, 0x100000000 - page, 0xffffffff, 0x100000000,
		0x100000001, 0x100000000 + page, 0x7fffffffffffffff, 0x8000000000000000, -(uint64_t)page,
		1 - (uint64_t)page,
		-2, -1,
	};

	return edges[below(me, COUNT(edges))];
}

/* Findings and the record of calls. */

static const char *row_name(int row);

__attribute__((format(printf, 1, 2)))
static void finding(const char *format, ...)
{
	unsigned int i = atomic_fetch_add(&sh->findings, 1);
	va_list list;
	int n;

	atomic_store(&sh->stop, 1);
	if (i >= MAX_FINDINGS)
		return;
	n = snprintf(sh->messages[i], sizeof(sh->messages[i]), "worker %u%s thread %u%s, call %u, %s: ",
		     w.serial, w.auditor ? " (auditor)" : "", self ? self->number : 0,
		     self && self->in_child ? " (its child)" : "", atomic_load(&sh->next),
		     self ? row_name(self->row) : "?");
	va_start(list, format);
	vsnprintf(sh->messages[i] + n, sizeof(sh->messages[i]) - n, format, list);
	va_end(list);
}

/*
 * Every call of a plan is between these two. x and y go into the digest: no
 * addresses, no descriptors, and no errors, as memory may lack once.
 */
static void enter(struct me *me, int row, uint64_t x, uint64_t y, uint64_t shown)
{
	me->row = row;
	me->x = x;
	me->y = y;
	atomic_store(&me->record->row, row);
	atomic_store(&me->record->a, x);
	atomic_store(&me->record->b, y);
	atomic_store(&me->record->c, shown);
	atomic_store(&me->record->inside, 1);
	atomic_fetch_add(&sh->rows[row].made, 1);
}

static long leave(struct me *me, long result)
{
	int error = result == -1 ? errno : 0;

	atomic_store(&me->record->inside, 0);
	atomic_fetch_add(&sh->returned, 1);
	if (!error)
		atomic_fetch_add(&sh->rows[me->row].succeeded, 1);
	else if (error > 0 && error <= MAX_ERRNO)
		atomic_fetch_add(&sh->rows[me->row].errors[error], 1);
	else
		finding("errno %d, which is the kernel's own", error);
	if (repeatable)
		sh->digest = mix(mix(mix(sh->digest ^ me->row, me->x), me->y), me->rng);
	errno = error;
	return result;
}

/* Descriptors. */

/* Nobody may go on believing that a number is what it was. */
static void forget(int fd)
{
	for (unsigned int i = 0; i < SLOTS; i++) {
		int expected = fd;

		atomic_compare_exchange_strong(&slots[i].fd, &expected, -1);
	}
	for (unsigned int i = 0; i < COUNT(ion_handles); i++) {
		int client = fd, buffer = fd;

		atomic_compare_exchange_strong(&ion_handles[i].client, &client, -1);
		atomic_compare_exchange_strong(&ion_handles[i].fd, &buffer, -1);
	}
}

/* The oldest one goes. */
static struct slot *keep(struct me *me, int fd, enum kind kind, uint64_t size)
{
	bool device = A(kind) & DEVICES;
	struct slot *slot;
	int old;

	if (device)
		slot = &slots[atomic_fetch_add(&next_device, 1) % DEVICE_SLOTS];
	else
		slot = &slots[DEVICE_SLOTS + atomic_fetch_add(&next_other, 1) % (SLOTS - DEVICE_SLOTS)];
	forget(fd);
	old = atomic_exchange(&slot->fd, -1);
	slot->region_count = 0;
	slot->kind = kind;
	slot->size = size > UINT32_MAX ? UINT32_MAX : size;
	atomic_store(&slot->fd, fd);
	if (old >= 0) {
		forget(old);
		close(old);
		me->last_closed = old;
	}
	return slot;
}

struct target {
	int fd;
	enum kind kind;
	struct slot *slot;
};

static struct target pick_slot(struct me *me, unsigned int kinds)
{
	unsigned int start = below(me, SLOTS);

	for (unsigned int i = 0; i < SLOTS; i++) {
		struct slot *slot = &slots[(start + i) % SLOTS];
		int fd = atomic_load(&slot->fd);

		if (fd >= 0 && kinds & A(slot->kind))
			return (struct target){ .fd = fd, .kind = slot->kind, .slot = slot };
	}
	return (struct target){ .fd = -1 };
}

static struct target pick(struct me *me, unsigned int kinds)
{
	struct target target = { .fd = -1 };

	if (!chance(me, 10)) {
		target = pick_slot(me, kinds);
		if (target.fd >= 0)
			return target;
	}
	switch (below(me, 8)) {
	case 0:
		break;
	case 1:
		target.fd = edge(me);
		if (target.fd >= 0 && target.fd < 4096)
			target.fd += 4096;
		break;
	case 2:
		target.fd = me->last_closed;
		break;
	case 3:
		target.fd = below(me, 64);
		break;
	default:
		target = pick_slot(me, ~0u);
	}
	return target;
}

/* The arena and what moves bytes from and to it. */

static unsigned int page_of(const char *address)
{
	return (address - w.arena) / page;
}

static bool in_arena(const void *address)
{
	return (const char *)address >= w.arena && (const char *)address < w.arena + ARENA_PAGES * page;
}

static void set_kinds(const char *address, size_t length, enum kind kind)
{
	unsigned int first;
	unsigned int pages = (length + page - 1) / page;

	if (!in_arena(address))
		return;
	first = page_of(address);
	if (pages > ARENA_PAGES - first)
		pages = ARENA_PAGES - first;
	memset(page_kinds + first, kind, pages);
}

static void remember(const char *address, size_t length)
{
	unsigned int i = atomic_fetch_add(&next_extent, 1) % EXTENTS;

	if (!in_arena(address))
		return;
	atomic_store(&extents[i].first, page_of(address));
	atomic_store(&extents[i].pages, (length + page - 1) / page);
}

static void remember_mapping(const char *address, size_t length, struct target target, unsigned int pgoff)
{
	struct mapping *mapping;

	if (!in_arena(address) || !(A(target.kind) & ION_BUFS))
		return;
	mapping = &mappings[atomic_fetch_add(&next_mapping, 1) % MAPPINGS];
	atomic_store(&mapping->fd, target.fd);
	atomic_store(&mapping->first, page_of(address));
	atomic_store(&mapping->pages, (length + page - 1) / page);
	atomic_store(&mapping->pgoff, pgoff);
}

/* Unmapping costs a flush for each page in between, which stops all processors under emulation. */
static size_t cap(struct me *me, size_t length)
{
	return length > 64 * page && below(me, 100) ? 64 * page : length;
}

static char *free_place(struct me *me, size_t *length)
{
	unsigned int first = below(me, ARENA_PAGES);

	*length = cap(me, *length);
	if (*length > (ARENA_PAGES - first) * page)
		*length = (ARENA_PAGES - first) * page;
	return w.arena + first * page;
}

/* What was mapped lately, or a part of it, or anything; always inside the arena. */
static char *pick_range(struct me *me, size_t *length)
{
	unsigned int latest = atomic_load(&next_extent) - 1;
	unsigned int i = (latest - below(me, chance(me, 70) ? 4 : EXTENTS)) % EXTENTS;
	unsigned int first = atomic_load(&extents[i].first);
	unsigned int pages = atomic_load(&extents[i].pages);
	char *address;
	size_t left;

	if (!pages || chance(me, 15)) {
		first = below(me, ARENA_PAGES);
		pages = 1 + below(me, 32);
	}
	if (pages > 1 && chance(me, 40)) {
		unsigned int skip = below(me, pages);

		first += skip;
		pages = 1 + below(me, pages - skip);
	}
	first %= ARENA_PAGES;
	address = w.arena + first * page;
	left = (ARENA_PAGES - first) * page;
	*length = pages * page;
	if (chance(me, 8))
		*length += page * below(me, 4);
	if (chance(me, 3))
		*length = edge(me);
	*length = cap(me, *length);
	if (chance(me, 3)) {
		address += below(me, page);
		left -= page;
	}
	if (*length > left)
		*length = left;
	return address;
}

/* Places in the scratch file; a child has its own. */
static off_t scratch_offset(const struct me *me)
{
	return me->in_child ? 2 * page : 0;
}

#define TAG_OFFSET page

/*
 * A write to a file does not go past the end of a page here: on 32-bit ARM the
 * kernel tries for ever where the next page cannot be read and fewer than 32
 * bytes are left of this one (generic_perform_write(): some bytes can be read,
 * none are copied).
 */
static size_t to_page_end(const void *address, size_t length)
{
	size_t left = page - (uintptr_t)address % page;

	return length < left ? length : left;
}

static long copy_out(struct me *me, const char *address, size_t length)
{
	length = to_page_end(address, length);
	return pwrite(me->scratch, address, length, scratch_offset(me));
}

static long copy_in(struct me *me, char *address, size_t length, off_t offset)
{
	return pread(me->scratch, address, length, offset);
}

#define NONE_STRANGE	(-1)
#define UNREADABLE	(-2)

/* The first byte that is neither 0 nor tag. */
static long find_strange(struct me *me, const char *address, size_t length, unsigned char tag,
			 unsigned char *strange)
{
	unsigned char bytes[256];
	long got;

	if (length > sizeof(bytes))
		length = sizeof(bytes);
	got = copy_out(me, address, length);
	if (got <= 0)
		return UNREADABLE;
	got = pread(me->scratch, bytes, got, scratch_offset(me));
	for (long i = 0; i < got; i++)
		if (bytes[i] && bytes[i] != tag) {
			*strange = bytes[i];
			return i;
		}
	return NONE_STRANGE;
}

/* An auditor's new memory: zeroes to the end of the last page, and nothing beyond it. */
static void audit_fresh(struct me *me, int fd, uint32_t offset, uint64_t size, bool may_be_secured)
{
	size_t length = (size + page - 1) / page * page;
	size_t places[] = { 0, length - 256, (below(me, 1 << 20) % (length / page)) * page };
	unsigned char strange;
	char *bytes;

	if (!w.auditor)
		return;
	bytes = mmap(NULL, length, PROT_READ, MAP_SHARED, fd, offset);
	if (bytes == MAP_FAILED) {
		/* EACCES: a device that is open for writing only. */
		if (errno != ENOMEM && errno != EACCES && !(may_be_secured && errno == EPERM))
			finding("%zu fresh bytes cannot be mapped: %s", length, strerrorname_np(errno));
		return;
	}
	for (unsigned int i = 0; i < COUNT(places); i++) {
		long at = find_strange(me, bytes + places[i], 256, 0, &strange);

		if (at >= 0)
			finding("byte %ld of %zu fresh ones is 0x%02x", (long)places[i] + at, length, strange);
		if (at == UNREADABLE && errno != ENOMEM)
			finding("byte %zu of %zu fresh ones cannot be read: %s", places[i], length,
				strerrorname_np(errno));
	}
	munmap(bytes, length);
	atomic_fetch_add(&sh->audits, 1);
}

static void audit_fd(int fd, uint64_t size)
{
	struct stat status;
	off_t end;

	if (fd < 0) {
		finding("succeeded with descriptor %d", fd);
		return;
	}
	if (!w.auditor)
		return;
	if (fstat(fd, &status))
		finding("fstat of the new descriptor %d: %s", fd, strerrorname_np(errno));
	end = lseek(fd, 0, SEEK_END);
	if (size && end != (off_t)((size + page - 1) / page * page))
		finding("a buffer of %llu bytes ends at %lld", (unsigned long long)size, (long long)end);
}

/* Where arguments lie, and a name. Pages of an area: */
enum { GUARD_0, FIRST, SECOND, GUARD_1, READ_ONLY, GUARD_2, NAMES, GUARD_3, AREA_PAGES };

enum place { GOOD, MISALIGNED, AT_END, AT_NULL, LOW, IN_KERNEL, UNMAPPED, STRADDLING, READABLE, IN_ARENA };

static bool is_readable(enum place place)
{
	return place == GOOD || place == MISALIGNED || place == AT_END;
}

static enum place choose_place(struct me *me)
{
	static const enum place bad[] = {
		AT_NULL, LOW, IN_KERNEL, UNMAPPED, STRADDLING, STRADDLING, READABLE, READABLE, READABLE,
		IN_ARENA, IN_ARENA,
	};
	unsigned int n = below(me, 100);

	if (n < 74)
		return GOOD;
	if (n < 80)
		return MISALIGNED;
	if (n < 84)
		return AT_END;
	n = bad[below(me, COUNT(bad))];
	/* What the kernel answers there is not what an auditor wrote. */
	return n == IN_ARENA && w.auditor ? READABLE : n;
}

static void *put_in(struct me *me, enum place place, const void *data, size_t size)
{
	char *end = me->area + GUARD_1 * page;
	char *address = me->area + FIRST * page + 64;
	size_t length;

	switch (place) {
	case GOOD:
		break;
	case MISALIGNED:
		address += 1 + below(me, 7);
		break;
	case AT_END:
		address = end - size;
		break;
	case AT_NULL:
		return NULL;
	case LOW:
		return (void *)(uintptr_t)(1 + below(me, page - 1));
	case IN_KERNEL:
		return (void *)(kernel_address + below(me, 1 << 12));
	case UNMAPPED:
		return end + below(me, page - 64);
	case STRADDLING:
		length = size > 1 ? 1 + below(me, size - 1) : 0;
		memcpy(end - length, data, length);
		return end - length;
	case READABLE:
		address = me->area + READ_ONLY * page + 8 * below(me, 64);
		mprotect(me->area + READ_ONLY * page, page, PROT_READ | PROT_WRITE);
		memcpy(address, data, size);
		mprotect(me->area + READ_ONLY * page, page, PROT_READ);
		return address;
	case IN_ARENA:
		address = pick_range(me, &length);
		if (pwrite(me->scratch, data, size, scratch_offset(me)) > 0)
			copy_in(me, address, size, scratch_offset(me));
		return address;
	}
	memcpy(address, data, size);
	return address;
}

static char *choose_name(struct me *me)
{
	static const unsigned char lengths[] = { 0, 1, 5, 12, 30, 31, 32, 33, 200 };
	char *names = me->area + NAMES * page;
	unsigned int length;

	switch (below(me, 12)) {
	case 0:
		return NULL;
	case 1:
		return (char *)kernel_address;
	case 2:
		return names + page;
	case 3:
		length = 1 + below(me, 64);
		memset(names + page - length, 'u', length);
		return names + page - length;
	default:
		length = lengths[below(me, COUNT(lengths))];
		memset(names, 'a' + below(me, 26), length);
		names[length] = 0;
		return names;
	}
}

/* The ioctls: how an argument begins its life, and what is checked when it was accepted. */

union argument {
	unsigned char bytes[64];
	uint32_t words[16];
	uint64_t longs[8];
	int fd;
	struct ion_allocation_data ion_alloc;
	struct ion_heap_query query;
	struct ion_legacy_alloc legacy_alloc;
	struct ion_legacy_alloc_v0 legacy_alloc_v0;
	struct ion_legacy_fd legacy_fd;
	struct ion_legacy_custom legacy_custom;
	struct ion_legacy_flush legacy_flush;
	struct ion_legacy_flags legacy_flags;
	struct cmamem_info info;
	struct cmem_alloc cmem_alloc;
	struct cmem_export cmem_export;
	struct dma_buf_sync sync;
	struct dma_buf_export_sync_file sync_file;
	struct dma_heap_allocation_data heap;
};

struct command {
	const char *name;
	uint32_t number;
	unsigned int size, weight, kinds;
	void (*fill)(struct me *me, struct target target, union argument *arg);
	void (*succeeded)(struct me *me, struct target target, const union argument *in,
			  const union argument *out);
	int len_at, len_size;	/* a length that must not become hundreds of megabytes; len_size 0: none */
};

static uint32_t some_length(struct me *me)
{
	unsigned int n = below(me, 1000);

	/* A page costs milliseconds on a kernel that looks at everything, under emulation. */
	if (n < 600)
		return 1 + below(me, page);
	if (n < 850)
		return 1 + below(me, 4 * page);
	if (n < 970)
		return page * (1 + below(me, 65536 / page));
	if (n < 996)
		return 1 + below(me, 192 << 10);
	return 1 + below(me, 2 << 20);
}

static uint64_t tame(struct me *me, uint64_t length)
{
	/* What is larger than this is refused at once, mostly. */
	if (length <= 4 << 20 || length >= 1u << 31 || !below(me, 4000))
		return length;
	return (length & 0xffff) | 1;
}

static void fill_zero(struct me *me, struct target target, union argument *arg)
{
	(void)me;
	(void)target;
	memset(arg, 0, sizeof(*arg));
}

/* Numbers that could be handles, descriptors, lengths, addresses. */
static void fill_plausible(struct me *me, struct target target, union argument *arg)
{
	(void)target;
	for (unsigned int i = 0; i < COUNT(arg->words); i++)
		switch (below(me, 5)) {
		case 0:
			arg->words[i] = below(me, 8);
			break;
		case 1:
			arg->words[i] = pick_slot(me, BUFS | A(CMA)).fd;
			break;
		case 2:
			arg->words[i] = some_length(me);
			break;
		case 3:
			arg->words[i] = (uintptr_t)w.arena + page * below(me, ARENA_PAGES);
			break;
		default:
			arg->words[i] = edge(me);
		}
}

static void fill_ion_alloc(struct me *me, struct target target, union argument *arg)
{
	const uint32_t masks[] = { 1, 16, 17, 2, ~0u, ~1u, 0, secured, secured };
	unsigned int n = below(me, 10);

	(void)target;
	arg->ion_alloc = (struct ion_allocation_data){
		.len = some_length(me),
		.heap_id_mask = n < 4 ? masks[below(me, COUNT(masks))]
			      : n < 9 ? 1u << below(me, n < 8 ? 8 : 32) : any(me),
		.flags = below(me, 4), .fd = any(me), .unused = any(me),
	};
}

static void succeeded_ion_alloc(struct me *me, struct target target, const union argument *in,
				const union argument *out)
{
	(void)target;
	if (out->ion_alloc.len != in->ion_alloc.len)
		finding("len %llu came back as %llu", (unsigned long long)in->ion_alloc.len,
			(unsigned long long)out->ion_alloc.len);
	audit_fd(out->ion_alloc.fd, in->ion_alloc.len);
	audit_fresh(me, out->ion_alloc.fd, 0, in->ion_alloc.len, in->ion_alloc.heap_id_mask & secured);
	keep(me, out->ion_alloc.fd, BUF_ION, in->ion_alloc.len);
}

/* One of the client's, if there is any, of the buffer or (-1) of any. 0: none. */
static int find_ion_handle(struct me *me, int client, int fd)
{
	unsigned int start = below(me, COUNT(ion_handles));

	for (unsigned int i = 0; i < COUNT(ion_handles); i++) {
		unsigned int at = (start + i) % COUNT(ion_handles);

		if (atomic_load(&ion_handles[at].client) == client &&
		    (fd < 0 || atomic_load(&ion_handles[at].fd) == fd))
			return atomic_load(&ion_handles[at].handle);
	}
	return 0;
}

static int some_ion_handle(struct me *me, int client)
{
	int handle = chance(me, 80) ? find_ion_handle(me, client, -1) : 0;

	return handle || chance(me, 10) ? handle : (int)edge(me);
}

static void remember_ion_handle(int handle, int client, int fd)
{
	unsigned int i = atomic_fetch_add(&next_ion_handle, 1) % COUNT(ion_handles);

	if (handle <= 0)
		finding("succeeded with handle %d", handle);
	atomic_store(&ion_handles[i].client, client);
	atomic_store(&ion_handles[i].handle, handle);
	atomic_store(&ion_handles[i].fd, fd);
}

static void fill_legacy_alloc(struct me *me, struct target target, union argument *arg)
{
	(void)target;
	arg->legacy_alloc = (struct ion_legacy_alloc){
		.len = some_length(me),
		.align = chance(me, 50) ? page << below(me, 5) : chance(me, 80) ? 0 : edge(me),
		.heap_id_mask = 1u << below(me, chance(me, 85) ? 8 : 32),
		.flags = below(me, 4),
	};
}

static void succeeded_legacy_alloc(struct me *me, struct target target, const union argument *in,
				   const union argument *out)
{
	(void)me;
	if (out->legacy_alloc.len != in->legacy_alloc.len)
		finding("len %zu came back as %zu", (size_t)in->legacy_alloc.len,
			(size_t)out->legacy_alloc.len);
	remember_ion_handle(out->legacy_alloc.handle, target.fd, -1);
}

/* All arguments but those of ALLOC and CUSTOM begin with one. */
static void fill_ion_handle(struct me *me, struct target target, union argument *arg)
{
	fill_plausible(me, target, arg);
	arg->words[0] = some_ion_handle(me, target.fd);
}

/* It is gone then, mostly. */
static void fill_legacy_free(struct me *me, struct target target, union argument *arg)
{
	bool gone = chance(me, 60);

	fill_ion_handle(me, target, arg);
	for (unsigned int i = 0; gone && i < COUNT(ion_handles); i++)
		if (atomic_load(&ion_handles[i].client) == target.fd &&
		    atomic_load(&ion_handles[i].handle) == arg->fd)
			atomic_store(&ion_handles[i].client, -1);
}

static void succeeded_legacy_share(struct me *me, struct target target, const union argument *in,
				   const union argument *out)
{
	off_t size = lseek(out->legacy_fd.fd, 0, SEEK_END);

	audit_fd(out->legacy_fd.fd, size < 0 ? 0 : size);
	keep(me, out->legacy_fd.fd, BUF_ION, size < 0 ? 0 : size);
	remember_ion_handle(in->legacy_fd.handle, target.fd, out->legacy_fd.fd);
}

/* Its descriptor may be another's by now: that is one of the errors. */
static bool is_there(const struct mapping *mapping)
{
	unsigned int first = atomic_load(&mapping->first);
	int fd = atomic_load(&mapping->fd);

	if (!atomic_load(&mapping->pages) || !(A(page_kinds[first]) & ION_BUFS))
		return false;
	for (unsigned int i = 0; i < SLOTS; i++)
		if (atomic_load(&slots[i].fd) == fd)
			return A(slots[i].kind) & ION_BUFS;
	return false;
}

static const struct mapping *pick_mapping(struct me *me)
{
	unsigned int latest = atomic_load(&next_mapping) - 1 - below(me, 4);

	for (unsigned int i = 0; i < MAPPINGS; i++) {
		const struct mapping *mapping = &mappings[(latest - i) % MAPPINGS];

		if (is_there(mapping))
			return mapping;
	}
	return NULL;
}

/* Often one that is mapped, for the calls on caches. */
static int some_ion_buffer(struct me *me)
{
	const struct mapping *mapping = chance(me, 50) ? pick_mapping(me) : NULL;

	if (mapping)
		return atomic_load(&mapping->fd);
	return pick(me, chance(me, 80) ? ION_BUFS : BUFS).fd;
}

static void fill_legacy_fd(struct me *me, struct target target, union argument *arg)
{
	(void)target;
	arg->legacy_fd = (struct ion_legacy_fd){ .handle = any(me), .fd = some_ion_buffer(me) };
}

static void succeeded_legacy_import(struct me *me, struct target target, const union argument *in,
				    const union argument *out)
{
	(void)me;
	remember_ion_handle(out->legacy_fd.handle, target.fd, in->legacy_fd.fd);
}

static void fill_legacy_import_v0(struct me *me, struct target target, union argument *arg)
{
	(void)target;
	arg->fd = some_ion_buffer(me);
}

static void succeeded_legacy_import_v0(struct me *me, struct target target, const union argument *in,
				       const union argument *out)
{
	(void)me;
	remember_ion_handle(out->fd, target.fd, in->fd);
}

static void fill_legacy_custom(struct me *me, struct target target, union argument *arg)
{
	uint32_t id = below(me, 32);

	(void)target;
	while (secured && !(secured >> id & 1))
		id = (id + 1) % 32;
	arg->legacy_custom = (struct ion_legacy_custom){
		.cmd = chance(me, 85) ? ION_LEGACY_SECURE_HEAP : (uint32_t)edge(me),
		.arg = chance(me, 85) ? id : chance(me, 50) ? below(me, 8) : edge(me),
	};
	/* Not as often: an mmap is to find secured heaps, too. */
	if (chance(me, 40))
		arg->legacy_custom.cmd = ION_LEGACY_UNSECURE_HEAP;
}

/* A client that has no handle of the buffer yet gets one. 0: none. */
static int handle_of(struct me *me, struct target client, int fd)
{
	struct ion_legacy_fd import = { .fd = fd };
	int handle = find_ion_handle(me, client.fd, fd);

	if (handle || client.kind != ION || ioctl(client.fd, ION_LEGACY_IOC_IMPORT, &import))
		return handle;
	remember_ion_handle(import.handle, client.fd, fd);
	return import.handle;
}

static void fill_flush(struct me *me, struct target client, bool by_handle, union argument *arg)
{
	struct ion_legacy_flush *flush = &arg->legacy_flush;
	const struct mapping *mapping = chance(me, 90) ? pick_mapping(me) : NULL;
	unsigned int pages, skip;

	pages = mapping ? atomic_load(&mapping->pages) : 0;
	if (!pages) {
		*flush = (struct ion_legacy_flush){
			.handle = by_handle ? some_ion_handle(me, client.fd) : 0,
			.fd = some_ion_buffer(me),
			.vaddr = w.arena + page * below(me, ARENA_PAGES),
			.offset = chance(me, 60) ? page * below(me, 4) : edge(me),
			.length = chance(me, 80) ? page * below(me, 4) : edge(me),
		};
		return;
	}
	skip = chance(me, 50) ? 0 : below(me, pages);
	*flush = (struct ion_legacy_flush){
		.handle = by_handle ? handle_of(me, client, atomic_load(&mapping->fd)) : 0,
		.fd = by_handle ? (int)edge(me) : atomic_load(&mapping->fd),
		.vaddr = w.arena + page * atomic_load(&mapping->first),
		.offset = page * (atomic_load(&mapping->pgoff) + skip),
		.length = 1 + below(me, page * (pages - skip)),
	};
	/* With the offset in it, or not: that of the mapping's beginning. */
	if (chance(me, 50))
		flush->vaddr = (char *)flush->vaddr + page * skip;
	else
		flush->offset = page * skip;
}

static void fill_flush_by_handle(struct me *me, struct target target, union argument *arg)
{
	fill_flush(me, target, true, arg);
}

static void fill_flush_by_fd(struct me *me, struct target target, union argument *arg)
{
	fill_flush(me, target, false, arg);
}

static void succeeded_legacy_flags(struct me *me, struct target target, const union argument *in,
				   const union argument *out)
{
	(void)me;
	(void)target;
	(void)in;
	if (out->legacy_flags.flags & ~(unsigned long)ION_FLAG_CACHED)
		finding("flags 0x%lx", out->legacy_flags.flags);
}

#if __SIZEOF_POINTER__ == 4
static void fill_legacy_alloc_v0(struct me *me, struct target target, union argument *arg)
{
	fill_legacy_alloc(me, target, arg);
	arg->legacy_alloc_v0 = (struct ion_legacy_alloc_v0){
		.len = arg->legacy_alloc.len,
		.align = arg->legacy_alloc.align,
		.flags = arg->legacy_alloc.heap_id_mask | (arg->legacy_alloc.flags & ION_FLAG_CACHED),
	};
}

static void succeeded_legacy_alloc_v0(struct me *me, struct target target, const union argument *in,
				      const union argument *out)
{
	(void)me;
	if (out->legacy_alloc_v0.len != in->legacy_alloc_v0.len)
		finding("len %zu came back as %zu", (size_t)in->legacy_alloc_v0.len,
			(size_t)out->legacy_alloc_v0.len);
	remember_ion_handle(out->legacy_alloc_v0.handle, target.fd, -1);
}
#endif

static void fill_query(struct me *me, struct target target, union argument *arg)
{
	char *heaps = me->area + FIRST * page + 1024;

	(void)target;
	if (chance(me, 30))
		heaps = put_in(me, choose_place(me), "", 1);
	if (chance(me, 25))
		heaps = NULL;
	arg->query = (struct ion_heap_query){ .cnt = heaps ? below(me, 8) : 0, .heaps = (uintptr_t)heaps };
}

static void succeeded_query(struct me *me, struct target target, const union argument *in,
			    const union argument *out)
{
	(void)me;
	(void)target;
	(void)in;
	if (!out->query.cnt || out->query.cnt > 32)
		finding("%u heaps", out->query.cnt);
}

static void succeeded_get_fd(struct me *me, struct target target, const union argument *in,
			     const union argument *out)
{
	(void)target;
	(void)in;
	audit_fd(out->fd, 0);
	keep(me, out->fd, BUF_EXPORTER, page);
}

static struct region some_region(struct me *me, struct target target)
{
	unsigned int count = target.slot ? target.slot->region_count : 0;

	if (!count || chance(me, 10))
		return (struct region){ below(me, 6), page * below(me, 64), some_length(me) };
	return target.slot->regions[below(me, count) % COUNT(target.slot->regions)];
}

static void fill_info(struct me *me, struct target target, union argument *arg)
{
	struct region region = some_region(me, target);

	arg->info = (struct cmamem_info){
		.name = chance(me, 50) ? NULL : choose_name(me), .is_cache = below(me, 2), .id = region.id,
		.offset = chance(me, 50) ? 0 : page * below(me, 4), .len = region.len, .phy_base = any(me),
		.mem_base = any(me),
	};
}

static void fill_allocate(struct me *me, struct target target, union argument *arg)
{
	fill_info(me, target, arg);
	arg->info.len = some_length(me);
}

static void fill_connect(struct me *me, struct target target, union argument *arg)
{
	struct target other = pick(me, A(CMA));

	/* To itself it is refused. */
	for (int tries = 0; tries < 4 && other.fd == target.fd; tries++)
		other = pick(me, A(CMA));
	fill_info(me, target, arg);
	arg->info.id = other.fd;
}

static void check_phys(const union argument *out)
{
	if (w.no_rawio && out->info.phy_base)
		finding("phy_base 0x%x without CAP_SYS_RAWIO", out->info.phy_base);
}

static void succeeded_info(struct me *me, struct target target, const union argument *in,
			   const union argument *out)
{
	(void)me;
	(void)target;
	(void)in;
	check_phys(out);
	if (out->info.mem_base)
		finding("mem_base 0x%x", out->info.mem_base);
}

static void succeeded_map(struct me *me, struct target target, const union argument *in,
			  const union argument *out)
{
	succeeded_info(me, target, in, out);
	if (out->info.phy_base)
		finding("phy_base 0x%x, which it was not asked for", out->info.phy_base);
	if (out->info.id != in->info.id || out->info.offset % page || !out->info.len)
		finding("region %u is told as %u, %u bytes at %u", in->info.id, out->info.id, out->info.len,
			out->info.offset);
}

static void succeeded_get_phys(struct me *me, struct target target, const union argument *in,
			       const union argument *out)
{
	(void)me;
	(void)target;
	(void)in;
	check_phys(out);
	if (!out->info.phy_base || out->info.phy_base % page || !out->info.len)
		finding("%u bytes at 0x%x", out->info.len, out->info.phy_base);
}

/* Of calls that have nothing to say. */
static void succeeded_silently(struct me *me, struct target target, const union argument *in,
			       const union argument *out)
{
	(void)me;
	(void)target;
	if (memcmp(&in->info, &out->info, sizeof(in->info)))
		finding("it wrote an answer nobody asked for");
}

/* From here on it has what the other one has. */
static void succeeded_connect(struct me *me, struct target target, const union argument *in,
			      const union argument *out)
{
	succeeded_silently(me, target, in, out);
	for (unsigned int i = 0; target.slot && i < SLOTS; i++)
		if (slots[i].fd == (int)in->info.id && slots[i].kind == CMA) {
			memcpy(target.slot->regions, slots[i].regions, sizeof(slots[i].regions));
			target.slot->region_count = slots[i].region_count;
		}
}

/* It may have been given up: by a child, or through a copy of the descriptor. */
static bool has_region(int fd, const struct region *region)
{
	struct cmamem_info info = { .id = region->id };

	return !ioctl(fd, CMEM_MAP, &info) && info.offset == region->offset && info.len == region->len;
}

static void succeeded_allocate(struct me *me, struct target target, const union argument *in,
			       const union argument *out)
{
	struct slot *slot = target.slot;
	unsigned int i;

	check_phys(out);
	if (out->info.len != in->info.len)
		finding("len %u came back as %u", in->info.len, out->info.len);
	if (out->info.mem_base)
		finding("mem_base 0x%x", out->info.mem_base);
	if (!slot)
		return;
	audit_fresh(me, target.fd, out->info.offset, in->info.len, false);
	i = atomic_load(&slot->region_count);
	slot->regions[i % COUNT(slot->regions)] =
		(struct region){ out->info.id, out->info.offset, out->info.len };
	atomic_store(&slot->region_count, i + 1);
}

static void fill_cmem_alloc(struct me *me, struct target target, union argument *arg)
{
	(void)target;
	arg->cmem_alloc = (struct cmem_alloc){ .len = some_length(me), .flags = below(me, 2), .fd = any(me) };
}

static void succeeded_cmem_alloc(struct me *me, struct target target, const union argument *in,
				 const union argument *out)
{
	(void)target;
	audit_fd(out->cmem_alloc.fd, in->cmem_alloc.len);
	audit_fresh(me, out->cmem_alloc.fd, 0, in->cmem_alloc.len, false);
	keep(me, out->cmem_alloc.fd, BUF_CMA, in->cmem_alloc.len);
}

static void fill_cmem_export(struct me *me, struct target target, union argument *arg)
{
	arg->cmem_export = (struct cmem_export){
		.id = some_region(me, target).id, .fd_flags = (chance(me, 50) ? O_CLOEXEC : 0) | below(me, 3),
		.fd = any(me),
	};
}

static void succeeded_cmem_export(struct me *me, struct target target, const union argument *in,
				  const union argument *out)
{
	off_t size = lseek(out->cmem_export.fd, 0, SEEK_END);

	(void)target;
	(void)in;
	audit_fd(out->cmem_export.fd, size > 0 ? size : 1);
	keep(me, out->cmem_export.fd, BUF_CMA, size > 0 ? size : 0);
}

static void fill_sync(struct me *me, struct target target, union argument *arg)
{
	(void)target;
	arg->sync.flags = (1 + below(me, 3)) | (chance(me, 50) ? DMA_BUF_SYNC_END : DMA_BUF_SYNC_START);
}

static void fill_export_sync_file(struct me *me, struct target target, union argument *arg)
{
	(void)target;
	arg->sync_file = (struct dma_buf_export_sync_file){ .flags = 1 + below(me, 3), .fd = any(me) };
}

static void succeeded_export_sync_file(struct me *me, struct target target, const union argument *in,
				       const union argument *out)
{
	(void)target;
	(void)in;
	audit_fd(out->sync_file.fd, 0);
	keep(me, out->sync_file.fd, SYNC_FILE, 0);
}

static void fill_import_sync_file(struct me *me, struct target target, union argument *arg)
{
	(void)target;
	arg->sync_file = (struct dma_buf_export_sync_file){
		.flags = 1 + below(me, 3), .fd = pick(me, A(SYNC_FILE)).fd,
	};
}

static void fill_heap(struct me *me, struct target target, union argument *arg)
{
	(void)target;
	arg->heap = (struct dma_heap_allocation_data){
		.len = some_length(me), .fd_flags = O_CLOEXEC | below(me, 3),
	};
}

static void succeeded_heap(struct me *me, struct target target, const union argument *in,
			   const union argument *out)
{
	(void)target;
	audit_fd(out->heap.fd, in->heap.len);
	audit_fresh(me, out->heap.fd, 0, in->heap.len, false);
	keep(me, out->heap.fd, BUF_HEAP, in->heap.len);
}

static void succeeded_version(struct me *me, struct target target, const union argument *in,
			      const union argument *out)
{
	(void)me;
	(void)target;
	(void)in;
	if (out->words[0] != 2)
		finding("version %u", out->words[0]);
}

#define INFO_SIZE sizeof(struct cmamem_info)
#define LEN_OF(type, field) offsetof(struct type, field), sizeof(((struct type *)0)->field)
/* Programs may have been made for a shorter struct, or a longer one. */
#define HEAP_ALLOC(size) _IOC(_IOC_READ | _IOC_WRITE, DMA_HEAP_IOC_MAGIC, 0, size), size
#define LEGACY_FLUSH(name, number, weight, fill)						\
	{ name, number, sizeof(struct ion_legacy_flush), weight, A(ION), fill, NULL, 0, 0 }
/* A layout that this program does not have: a call nobody knows. */
#define OTHER_WIDTH(name, number, size)	{ name, number, size, 1, A(ION), fill_plausible, NULL, 0, 0 }

/* All of what is documented, those numbers too that are there only with a parameter. */
static const struct command commands[] = {
	{ "EXPORTER_GET_FD", EXPORTER_GET_FD, 4, 12, A(EXPORTER), fill_zero, succeeded_get_fd, 0, 0 },
	{ "EXPORTER_IOC_GET_FD", EXPORTER_IOC_GET_FD, 4, 12, A(EXPORTER), fill_zero, succeeded_get_fd, 0, 0 },
	{ "ION_IOC_ALLOC", ION_IOC_ALLOC, sizeof(struct ion_allocation_data), 60, A(ION), fill_ion_alloc,
	  succeeded_ion_alloc, LEN_OF(ion_allocation_data, len) },
	{ "ION_IOC_HEAP_QUERY", ION_IOC_HEAP_QUERY, sizeof(struct ion_heap_query), 16, A(ION), fill_query,
	  succeeded_query, 0, 0 },
	{ "ION_IOC_ABI_VERSION", ION_IOC_ABI_VERSION, 4, 3, A(ION), fill_zero, succeeded_version, 0, 0 },

	{ "ION legacy ALLOC", ION_LEGACY_IOC_ALLOC, sizeof(struct ion_legacy_alloc), 30, A(ION),
	  fill_legacy_alloc, succeeded_legacy_alloc, LEN_OF(ion_legacy_alloc, len) },
	{ "ION legacy FREE", ION_LEGACY_IOC_FREE, 4, 20, A(ION), fill_legacy_free, NULL, 0, 0 },
	{ "ION legacy MAP", ION_LEGACY_IOC_MAP, 8, 10, A(ION), fill_ion_handle, succeeded_legacy_share, 0, 0 },
	{ "ION legacy SHARE", ION_LEGACY_IOC_SHARE, 8, 20, A(ION), fill_ion_handle, succeeded_legacy_share, 0, 0 },
	{ "ION legacy IMPORT", ION_LEGACY_IOC_IMPORT, 8, 16, A(ION), fill_legacy_fd,
	  succeeded_legacy_import, 0, 0 },
	{ "ION legacy IMPORT, first form", ION_LEGACY_IOC_IMPORT_V0, 4, 10, A(ION), fill_legacy_import_v0,
	  succeeded_legacy_import_v0, 0, 0 },
	{ "ION legacy SYNC", ION_LEGACY_IOC_SYNC, 8, 10, A(ION), fill_legacy_fd, NULL, 0, 0 },
	{ "ION legacy CUSTOM", ION_LEGACY_IOC_CUSTOM, sizeof(struct ion_legacy_custom), 20, A(ION),
	  fill_legacy_custom, NULL, 0, 0 },
	LEGACY_FLUSH("ION legacy CLEAN", ION_LEGACY_IOC_CLEAN_CACHES, 12, fill_flush_by_handle),
	LEGACY_FLUSH("ION legacy INV", ION_LEGACY_IOC_INV_CACHES, 12, fill_flush_by_handle),
	LEGACY_FLUSH("ION legacy CLEAN_INV", ION_LEGACY_IOC_CLEAN_INV_CACHES, 12, fill_flush_by_handle),
	LEGACY_FLUSH("ION legacy CLEAN by descriptor", ION_LEGACY_IOC_CLEAN_CACHES, 10, fill_flush_by_fd),
	LEGACY_FLUSH("ION legacy INV by descriptor", ION_LEGACY_IOC_INV_CACHES, 10, fill_flush_by_fd),
	LEGACY_FLUSH("ION legacy CLEAN_INV by descriptor", ION_LEGACY_IOC_CLEAN_INV_CACHES, 10, fill_flush_by_fd),
	{ "ION legacy GET_FLAGS", ION_LEGACY_IOC_GET_FLAGS, sizeof(struct ion_legacy_flags), 10, A(ION),
	  fill_ion_handle, succeeded_legacy_flags, 0, 0 },

#if __SIZEOF_POINTER__ == 4
	{ "ION legacy ALLOC, first form", ION_LEGACY_IOC_ALLOC_V0, sizeof(struct ion_legacy_alloc_v0), 12, A(ION),
	  fill_legacy_alloc_v0, succeeded_legacy_alloc_v0, LEN_OF(ion_legacy_alloc_v0, len) },
	LEGACY_FLUSH("ION legacy CLEAN, first form", ION_LEGACY_IOC_CLEAN_CACHES_V0, 10, fill_flush_by_handle),
	LEGACY_FLUSH("ION legacy INV, first form", ION_LEGACY_IOC_INV_CACHES_V0, 10, fill_flush_by_fd),
	LEGACY_FLUSH("ION legacy CLEAN_INV, first form", ION_LEGACY_IOC_CLEAN_INV_CACHES_V0, 10, fill_flush_by_handle),
	{ "ION legacy GET_FLAGS, first form", ION_LEGACY_IOC_GET_FLAGS_V0, sizeof(struct ion_legacy_flags), 8, A(ION),
	  fill_ion_handle, succeeded_legacy_flags, 0, 0 },
	OTHER_WIDTH("ION legacy ALLOC, other width", 0xc0204900, 32),
	OTHER_WIDTH("ION legacy CUSTOM, other width", 0xc0104906, 16),
	OTHER_WIDTH("ION legacy CLEAN, other width", 0xc0184d00, 24),
	OTHER_WIDTH("ION legacy INV, other width", 0xc0184d01, 24),
	OTHER_WIDTH("ION legacy CLEAN_INV, other width", 0xc0184d02, 24),
	OTHER_WIDTH("ION legacy GET_FLAGS, other width", 0xc0104d03, 16),
#else
	OTHER_WIDTH("ION legacy ALLOC, other width", 0xc0144900, 20),
	OTHER_WIDTH("ION legacy ALLOC, first form, other width", 0xc0104900, 16),
	OTHER_WIDTH("ION legacy CUSTOM, other width", 0xc0084906, 8),
	OTHER_WIDTH("ION legacy CLEAN, other width", 0xc0144d00, 20),
	OTHER_WIDTH("ION legacy INV, other width", 0xc0144d01, 20),
	OTHER_WIDTH("ION legacy CLEAN_INV, other width", 0xc0144d02, 20),
	OTHER_WIDTH("ION legacy CLEAN, first form, other width", 0xc0144907, 20),
	OTHER_WIDTH("ION legacy INV, first form, other width", 0xc0144908, 20),
	OTHER_WIDTH("ION legacy CLEAN_INV, first form, other width", 0xc0144909, 20),
	OTHER_WIDTH("ION legacy GET_FLAGS, other width", 0xc0084d03, 8),
	OTHER_WIDTH("ION legacy GET_FLAGS, first form, other width", 0xc008490a, 8),
#endif

	{ "CMEM_GET_PHYS", CMEM_GET_PHYS, INFO_SIZE, 8, A(CMA), fill_info, succeeded_get_phys, 0, 0 },
	{ "CMEM_MAP", CMEM_MAP, INFO_SIZE, 8, A(CMA), fill_info, succeeded_map, 0, 0 },
	{ "CMEM_GET_SIZE", CMEM_GET_SIZE, INFO_SIZE, 8, A(CMA), fill_info, succeeded_info, 0, 0 },
	{ "CMEM_UNMAP", CMEM_UNMAP, INFO_SIZE, 12, A(CMA), fill_info, succeeded_silently, 0, 0 },
	{ "CMEM_ALLOCATE", CMEM_ALLOCATE, INFO_SIZE, 45, A(CMA), fill_allocate, succeeded_allocate,
	  LEN_OF(cmamem_info, len) },
	{ "CMEM_CONNECT", CMEM_CONNECT, INFO_SIZE, 24, A(CMA), fill_connect, succeeded_connect, 0, 0 },
	{ "CMEM_GET_TOTAL_SIZE", CMEM_GET_TOTAL_SIZE, INFO_SIZE, 5, A(CMA), fill_info, succeeded_info, 0, 0 },
	{ "CMEM_CACHE_FLUSH", CMEM_CACHE_FLUSH, INFO_SIZE, 12, A(CMA), fill_info, succeeded_silently, 0, 0 },
	{ "CMEM_IOC_ALLOC", CMEM_IOC_ALLOC, sizeof(struct cmem_alloc), 40, A(CMA), fill_cmem_alloc,
	  succeeded_cmem_alloc, LEN_OF(cmem_alloc, len) },
	{ "CMEM_IOC_EXPORT", CMEM_IOC_EXPORT, sizeof(struct cmem_export), 40, A(CMA), fill_cmem_export,
	  succeeded_cmem_export, 0, 0 },

	{ "DMA_BUF_IOCTL_SYNC", DMA_BUF_IOCTL_SYNC, sizeof(struct dma_buf_sync), 40, BUFS, fill_sync, NULL, 0, 0 },
	{ "DMA_BUF_SET_NAME_A", DMA_BUF_SET_NAME_A, 0, 8, BUFS, NULL, NULL, 0, 0 },
	{ "DMA_BUF_SET_NAME_B", DMA_BUF_SET_NAME_B, 0, 8, BUFS, NULL, NULL, 0, 0 },
	{ "DMA_BUF_IOCTL_EXPORT_SYNC_FILE", DMA_BUF_IOCTL_EXPORT_SYNC_FILE, 8, 12, BUFS, fill_export_sync_file,
	  succeeded_export_sync_file, 0, 0 },
	{ "DMA_BUF_IOCTL_IMPORT_SYNC_FILE", DMA_BUF_IOCTL_IMPORT_SYNC_FILE, 8, 12, BUFS, fill_import_sync_file, NULL,
	  0, 0 },
	{ "DMA_HEAP_IOCTL_ALLOC", DMA_HEAP_IOCTL_ALLOC, sizeof(struct dma_heap_allocation_data), 45, A(HEAP),
	  fill_heap, succeeded_heap, LEN_OF(dma_heap_allocation_data, len) },
	{ "DMA_HEAP_IOCTL_ALLOC, shorter", HEAP_ALLOC(12), 5, A(HEAP), fill_heap, succeeded_heap,
	  LEN_OF(dma_heap_allocation_data, len) },
	{ "DMA_HEAP_IOCTL_ALLOC, longer", HEAP_ALLOC(40), 5, A(HEAP), fill_heap, succeeded_heap,
	  LEN_OF(dma_heap_allocation_data, len) },
	{ "DMA_HEAP_IOCTL_ALLOC, too short", HEAP_ALLOC(11), 5, A(HEAP), fill_heap, NULL,
	  LEN_OF(dma_heap_allocation_data, len) },
};

static void mutate(struct me *me, union argument *arg, unsigned int size)
{
	unsigned int words = size / 4;
	unsigned int at = words ? below(me, words) : 0;

	switch (below(me, 6)) {
	case 0:
		for (unsigned int i = 0; i < COUNT(arg->longs); i++)
			arg->longs[i] = any(me);
		break;
	case 1:
		for (unsigned int i = 0; i < COUNT(arg->words); i++)
			arg->words[i] = edge(me);
		break;
	case 2:
		arg->words[at] ^= 1u << below(me, 32);
		break;
	case 3:
		arg->longs[at / 2] = edge(me);
		break;
	default:
		arg->words[at] = edge(me);
	}
}

static int lowest_free_fd(struct me *me)
{
	int fd = fcntl(me->scratch, F_DUPFD, 0);

	close(fd);
	return fd;
}

static void tame_argument(struct me *me, const struct command *command, union argument *arg)
{
	uint64_t length = 0;

	memcpy(&length, arg->bytes + command->len_at, command->len_size);
	length = tame(me, length);
	memcpy(arg->bytes + command->len_at, &length, command->len_size);
}

static unsigned int command_weight;

static bool do_ioctl(struct me *me)
{
	unsigned int n = below(me, command_weight);
	const struct command *command = commands;
	union argument in = { 0 }, out = { 0 };
	enum place place = GOOD;
	struct target target;
	int lowest = -1;
	void *arg;
	long ret;

	while (n >= command->weight)
		n -= command++->weight;
	target = pick(me, command->kinds);
	if (command->fill) {
		command->fill(me, target, &in);
		if (chance(me, 25))
			mutate(me, &in, command->size);
		tame_argument(me, command, &in);
		place = choose_place(me);
		/* The kernel does not touch what it does not know of it, which could be all that is missing. */
		if (place == STRADDLING && command->kinds == A(HEAP) && command->size > sizeof(in.heap))
			place = UNMAPPED;
		arg = put_in(me, place, &in, command->size);
	} else {
		arg = choose_name(me);
	}
	if (w.auditor && !is_readable(place) && command->kinds & (DEVICES | OUR_BUFS))
		lowest = lowest_free_fd(me);

	enter(me, command - commands, target.kind, place, target.fd);
	ret = leave(me, ioctl(target.fd, command->number, arg));
	if (ret < 0) {
		if (lowest >= 0 && lowest_free_fd(me) != lowest)
			finding("descriptor %d was left behind", lowest);
		return true;
	}
	if (w.auditor && A(target.kind) & command->kinds & (DEVICES | OUR_BUFS)) {
		if (ret > 0)
			finding("answered %ld", ret);
		/* All of these have something to say. */
		if (command->succeeded && command->succeeded != succeeded_silently &&
		    command->succeeded != succeeded_connect && !is_readable(place))
			finding("succeeded, and its answer cannot have arrived");
	}
	if (!is_readable(place) || !command->fill || !command->succeeded)
		return true;
	/* On a descriptor that is no longer what it was it means nothing. */
	if (!(A(target.kind) & command->kinds))
		return true;
	memcpy(&out, arg, command->size);
	command->succeeded(me, target, &in, &out);
	return true;
}

/* The other system calls. Each is a row of its own, after those of the commands. */

enum {
	IOCTL_OTHER = COUNT(commands),
	OPEN, CLOSE, DUP, FOREIGN_FD, MMAP, MUNMAP, MREMAP, MPROTECT, MADVISE, MSYNC, MLOCK, TOUCH_READ,
	TOUCH_WRITE, PROCESS_VM, VMSPLICE, SPLICE, LSEEK, READ, WRITE, POLL, FSTAT, FTRUNCATE, FALLOCATE, FCNTL,
	SEND, RECEIVE, FDINFO, REOPEN, EPOLL_CTL, MAPS, LISTS, GEM_IMPORT, GEM_EXPORT, GEM_CLOSE, GEM_FENCE, FORK,
	ROWS,
};

_Static_assert(ROWS <= MAX_ROWS, "rows");

static bool do_ioctl_other(struct me *me)
{
	const struct command *command = &commands[below(me, COUNT(commands))];
	struct target target = pick(me, DEVICES | BUFS);
	uint32_t number = command->number;
	union argument in;
	void *arg;

	switch (below(me, 6)) {
	case 0:
		number ^= below(me, 16) << 16;	/* size */
		break;
	case 1:
		number ^= (1 + below(me, 3)) << 30;	/* direction */
		break;
	case 2:
		number = (number & ~0xffu) | below(me, 256);
		break;
	case 3:
		number ^= 1u << below(me, 32);
		break;
	case 4:
		number = any(me);
		break;
	default:
		number = (number & 0xffff) | below(me, 1 << 14) << 16;
	}
	fill_plausible(me, target, &in);
	if (chance(me, 50))
		mutate(me, &in, sizeof(in));
	/* It may yet turn out to be an allocation. */
	in.longs[0] = tame(me, in.longs[0]);
	in.words[0] = tame(me, in.words[0]);
	arg = put_in(me, choose_place(me), &in, sizeof(in));
	enter(me, IOCTL_OTHER, number, target.kind, target.fd);
	leave(me, ioctl(target.fd, number, arg));
	return true;
}

static const struct {
	const char *path;
	enum kind kind;
} devices[] = {
	{ "/dev/exporter", EXPORTER },
	{ "/dev/ion", ION },
	{ "/dev/cma_mem", CMA },
	{ "/dev/dma_heap/system", HEAP },
	{ "/dev/dma_heap/reserved", HEAP },
};

/* The first of them count what they have handed out; the nodes are counted with ION. */
#define COUNTED 3

static bool do_open(struct me *me)
{
	static const int extras[] = {
		O_NONBLOCK, O_CLOEXEC, O_PATH, O_DIRECT, O_APPEND, O_TRUNC, O_EXCL, O_NOFOLLOW, O_DIRECTORY, O_SYNC,
		O_NOATIME, O_NOCTTY,
	};
	unsigned int i = below(me, COUNT(devices));
	int flags = chance(me, 70) ? O_RDWR : below(me, 4);
	int fd;

	while (chance(me, 30))
		flags |= extras[below(me, COUNT(extras))];
	enter(me, OPEN, devices[i].kind, flags, 0);
	fd = leave(me, open(devices[i].path, flags));
	if (fd >= 0)
		keep(me, fd, flags & O_PATH ? PATH : devices[i].kind, page);
	return true;
}

static bool do_close(struct me *me)
{
	struct target target = pick(me, ~0u);

	if (target.fd >= WILD_FDS && target.fd < 4096)
		return false;
	forget(target.fd);
	me->last_closed = target.fd;
	enter(me, CLOSE, target.kind, 0, target.fd);
	leave(me, close(target.fd));
	return true;
}

static bool do_dup(struct me *me)
{
	struct target target = pick(me, DEVICES | BUFS);
	int fd, to = 3 + below(me, 200);
	bool chosen = chance(me, 30);

	if (chosen)
		forget(to);
	enter(me, DUP, target.kind, chosen, target.fd);
	fd = leave(me, chosen ? dup3(target.fd, to, chance(me, 50) ? O_CLOEXEC : 0) : dup(target.fd));
	if (fd >= 0) {
		struct slot *slot = keep(me, fd, target.kind, target.slot ? target.slot->size : 0);

		if (target.kind == CMA && target.slot && slot != target.slot) {
			memcpy(slot->regions, target.slot->regions, sizeof(slot->regions));
			slot->region_count = target.slot->region_count;
		}
	}
	return true;
}

/* A descriptor that is none of ours. */
static int open_foreign(struct me *me, enum kind kind)
{
	struct drm_mode_create_dumb dumb = { .width = page / 4, .height = 1 + below(me, 2), .bpp = 32 };
	struct drm_prime_handle export = { .flags = O_RDWR | O_CLOEXEC };
	struct drm_gem_close done = { 0 };
	int fds[2] = { -1, -1 };
	int ret;

	switch (kind) {
	case PIPE:
		if (pipe2(fds, O_CLOEXEC | O_NONBLOCK))
			return -1;
		break;
	case SOCKET:
		if (socketpair(AF_UNIX, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, fds))
			return -1;
		break;
	case MEMFD:
		fds[0] = memfd_create("fuzz", MFD_CLOEXEC | MFD_ALLOW_SEALING);
		if (fds[0] < 0)
			return -1;
		if (ftruncate(fds[0], page * (1 + below(me, 16))) || fcntl(fds[0], F_ADD_SEALS, F_SEAL_SHRINK)) {
			close(fds[0]);
			return -1;
		}
		break;
	case EVENTFD:
		return eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	case DEV_NULL:
		return open("/dev/null", O_RDWR | O_CLOEXEC);
	case UDMABUF:
		return open("/dev/udmabuf", O_RDWR | O_CLOEXEC);
	case EPOLL:
		return epoll_create1(EPOLL_CLOEXEC);
	default:
		/*
		 * Of vgem's own memory: udmabuf is reported by the debugging of
		 * the DMA API.
		 */
		if (ioctl(w.card, DRM_IOCTL_MODE_CREATE_DUMB, &dumb))
			return -1;
		export.handle = done.handle = dumb.handle;
		ret = ioctl(w.card, DRM_IOCTL_PRIME_HANDLE_TO_FD, &export);
		ioctl(w.card, DRM_IOCTL_GEM_CLOSE, &done);
		return ret ? -1 : export.fd;
	}
	if (fds[1] >= 0)
		keep(me, fds[1], kind, 0);
	return fds[0];
}

static const enum kind foreign_kinds[] = {
	PIPE, SOCKET, MEMFD, MEMFD, EVENTFD, DEV_NULL, UDMABUF, EPOLL, BUF_FOREIGN, BUF_FOREIGN,
};

/* So that there is one of each from the beginning. */
static void open_others(struct me *me)
{
	for (unsigned int i = 0; i < COUNT(foreign_kinds); i++) {
		int fd = open_foreign(me, foreign_kinds[i]);

		if (fd >= 0)
			keep(me, fd, foreign_kinds[i], page);
	}
}

static bool do_foreign(struct me *me)
{
	enum kind kind = foreign_kinds[below(me, COUNT(foreign_kinds))];
	int fd;

	enter(me, FOREIGN_FD, kind, 0, 0);
	fd = leave(me, open_foreign(me, kind));
	if (fd >= 0)
		keep(me, fd, kind, kind == MEMFD || kind == BUF_FOREIGN ? page : 0);
	return true;
}

/* Offset in pages: on 32 bit it has as many bits as mmap2 takes. */
static void *raw_mmap(void *hint, size_t length, int prot, int flags, int fd, unsigned long pgoff, unsigned int odd)
{
#ifdef SYS_mmap2
	/* Its unit is 4 KiB whatever a page is. */
	return (void *)syscall(SYS_mmap2, hint, length, prot, flags, fd, pgoff * (page / 4096) + (odd ? 1 : 0));
#else
	return (void *)syscall(SYS_mmap, hint, length, prot, flags, fd, pgoff * page + odd);
#endif
}

/* The page that raw_mmap() comes to. */
static unsigned long real_page(unsigned long pgoff, unsigned int odd)
{
#ifdef SYS_mmap2
	return pgoff + (odd && page == 4096);
#else
	return (pgoff * page + odd) / page;
#endif
}

/* An auditor's mapping ends where its buffer, or its region, does. */
static void audit_extent(struct target target, unsigned long first, size_t length)
{
	uint64_t mapped = (length + page - 1) / page;
	const struct slot *slot = target.slot;

	if (!w.auditor || !slot)
		return;
	if (A(target.kind) & (OUR_BUFS | A(EXPORTER)) && slot->size) {
		uint64_t pages = (slot->size + page - 1) / page;

		if (first >= pages || mapped > pages - first)
			finding("%llu pages at page %lu of a buffer of %llu are mapped",
				(unsigned long long)mapped, first, (unsigned long long)pages);
	}
	if (target.kind != CMA)
		return;
	for (unsigned int i = 0; i < slot->region_count && i < COUNT(slot->regions); i++) {
		uint64_t start = slot->regions[i].offset / page;
		uint64_t end = start + (slot->regions[i].len + page - 1) / page;

		if (first >= start && first < end && first + mapped > end &&
		    has_region(target.fd, &slot->regions[i]))
			finding("%llu pages at page %lu of a region of pages %llu to %llu are mapped",
				(unsigned long long)mapped, first, (unsigned long long)start,
				(unsigned long long)end);
	}
}

static bool do_mmap(struct me *me)
{
	static const int extras[] = {
		MAP_POPULATE, MAP_LOCKED, MAP_NORESERVE, MAP_NONBLOCK, MAP_POPULATE | MAP_LOCKED,
		MAP_STACK, MAP_SYNC, MAP_HUGETLB,
	};
	static const int prots[] = {
		PROT_READ | PROT_WRITE, PROT_READ | PROT_WRITE, PROT_READ | PROT_WRITE, PROT_READ | PROT_WRITE,
		PROT_READ | PROT_WRITE, PROT_READ | PROT_WRITE, PROT_READ | PROT_WRITE, PROT_READ, PROT_READ,
		PROT_NONE, PROT_WRITE, PROT_EXEC, PROT_READ | PROT_EXEC, PROT_READ | PROT_WRITE | PROT_EXEC,
		PROT_READ | PROT_GROWSDOWN, 8 /* PROT_SEM */,
	};
	struct target target = pick(me, OUR_BUFS | A(CMA) | A(EXPORTER) | (chance(me, 15) ? ~0u : 0));
	bool fixed = chance(me, 75), honest = chance(me, 70);
	int prot = prots[below(me, COUNT(prots))];
	int flags = MAP_SHARED;
	unsigned long pgoff = 0;
	unsigned int odd = 0;
	uint64_t size = target.slot ? target.slot->size : page;
	void *hint = NULL;
	size_t length;
	char *got;

	if (target.kind == CMA) {
		struct region region = some_region(me, target);

		pgoff = region.offset / page;
		size = region.len;
	}
	length = size ?: page;
	if (honest && length > page && chance(me, 30)) {
		unsigned int skip = below(me, length / page);

		pgoff += skip;
		length = page * (1 + below(me, length / page - skip));
	}
	if (!honest) {
		switch (below(me, 6)) {
		case 0:
			length = edge(me);
			break;
		case 1:
			length += page * (1 + below(me, 4));
			break;
		case 2:
			pgoff = any(me);
			break;
		case 3:
			pgoff = edge(me) / page - below(me, 3);
			break;
		case 4:
			pgoff = ~0ul - below(me, 8);
			break;
		default:
			pgoff += 1 + below(me, 16);
			odd = chance(me, 20) ? 1 + below(me, page - 1) : 0;
		}
	}
	if (chance(me, 22))
		flags = chance(me, 60) ? MAP_PRIVATE : chance(me, 60) ? MAP_SHARED_VALIDATE : 0;
	while (chance(me, 20))
		flags |= extras[below(me, COUNT(extras))];
	if (fixed) {
		hint = free_place(me, &length);
		if (chance(me, 2))
			hint = (char *)hint + 1;	/* EINVAL */
		flags |= chance(me, 90) ? MAP_FIXED : MAP_FIXED_NOREPLACE;
	} else if (chance(me, 50)) {
		hint = (void *)(uintptr_t)(edge(me) ^ any(me));
	}

	enter(me, MMAP, target.kind, (uint64_t)flags << 32 | pgoff, target.fd);
	got = raw_mmap(hint, length, prot, flags, target.fd, pgoff, odd);
	leave(me, got == MAP_FAILED ? -1 : 0);
	if (got == MAP_FAILED) {
		/* What was there is gone, or not. */
		if (flags & MAP_FIXED)
			set_kinds(hint, length, NONE);
		return true;
	}
	audit_extent(target, real_page(pgoff, odd), length);
	set_kinds(got, length, target.kind);
	if (in_arena(got)) {
		remember(got, length);
		remember_mapping(got, length, target, real_page(pgoff, odd));
	} else {
		copy_out(me, got, 64);
		if (prot & PROT_WRITE)
			copy_in(me, got + (length - 1) / page * page, 64, TAG_OFFSET);
		munmap(got, length);
	}
	return true;
}

static bool do_munmap(struct me *me)
{
	size_t length;
	char *address = pick_range(me, &length);
	long ret;

	enter(me, MUNMAP, length / page, 0, (uintptr_t)address);
	ret = leave(me, munmap(address, length));
	if (!ret)
		set_kinds(address, length, NONE);
	return true;
}

static bool do_mremap(struct me *me)
{
	static const int kinds_of_flags[] = {
		0, MREMAP_MAYMOVE, MREMAP_MAYMOVE, MREMAP_MAYMOVE | MREMAP_FIXED, MREMAP_MAYMOVE | MREMAP_FIXED,
		MREMAP_MAYMOVE | 4 /* DONTUNMAP */, MREMAP_MAYMOVE | MREMAP_FIXED | 4, MREMAP_FIXED, 8,
	};
	int flags = kinds_of_flags[below(me, COUNT(kinds_of_flags))];
	unsigned char moved[ARENA_PAGES];
	size_t old_length, new_length;
	unsigned int pages, first;
	char *address = pick_range(me, &old_length);
	char *to = NULL, *got;

	new_length = old_length;
	switch (below(me, 5)) {
	case 0:
		new_length += page * below(me, 8);
		break;
	case 1:
		new_length = page * (1 + below(me, old_length / page + 1));
		break;
	case 2:
		if (chance(me, 30))
			new_length = edge(me);
		break;
	default:
		break;
	}
	if (chance(me, 10))
		old_length = 0;
	if (flags & MREMAP_FIXED)
		to = free_place(me, &new_length);
	/* In place it must not leave the arena. */
	if (new_length > (size_t)(w.arena + ARENA_PAGES * page - address))
		new_length = w.arena + ARENA_PAGES * page - address;
	first = page_of(address);
	pages = old_length / page;
	if (pages > ARENA_PAGES - first)
		pages = ARENA_PAGES - first;
	memcpy(moved, page_kinds + first, sizeof(moved) - first);

	enter(me, MREMAP, flags, (uint64_t)(old_length / page) << 32 | new_length / page, (uintptr_t)address);
	got = (char *)syscall(SYS_mremap, address, old_length, new_length, flags, to);
	leave(me, got == MAP_FAILED ? -1 : 0);
	if (got == MAP_FAILED)
		return true;
	if (old_length && !(flags & 4))
		set_kinds(address, old_length, NONE);
	else if (flags & 4)
		set_kinds(address, old_length, MEMFD);
	if (!in_arena(got)) {
		copy_out(me, got, 64);
		munmap(got, new_length);
		return true;
	}
	/* What it grew by is more of the same. */
	set_kinds(got, new_length, moved[0]);
	for (unsigned int i = 1; i < pages && i < new_length / page; i++)
		set_kinds(got + i * page, page, moved[i]);
	remember(got, new_length);
	return true;
}

static bool do_mprotect(struct me *me)
{
	static const int prots[] = {
		PROT_READ | PROT_WRITE, PROT_READ | PROT_WRITE, PROT_READ, PROT_NONE, PROT_WRITE, PROT_EXEC,
		PROT_READ | PROT_GROWSDOWN, 0x55,
	};
	int prot = prots[below(me, COUNT(prots))];
	size_t length;
	char *address = pick_range(me, &length);

	enter(me, MPROTECT, prot, length / page, (uintptr_t)address);
	leave(me, mprotect(address, length, prot));
	return true;
}

static bool do_madvise(struct me *me)
{
	/* All there are but HWPOISON (100) and SOFT_OFFLINE (101). */
	static const unsigned char advices[] = {
		0, 1, 2, 3, 4, 4, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21, 22, 23, 24, 25,
		99, 255,
	};
	int advice = advices[below(me, COUNT(advices))];
	size_t length;
	char *address = pick_range(me, &length);

	enter(me, MADVISE, advice, length / page, (uintptr_t)address);
	leave(me, madvise(address, length, advice));
	return true;
}

static bool do_msync(struct me *me)
{
	int flags = below(me, 8);
	size_t length;
	char *address = pick_range(me, &length);

	enter(me, MSYNC, flags, length / page, (uintptr_t)address);
	leave(me, msync(address, length, flags));
	return true;
}

static bool do_mlock(struct me *me)
{
	unsigned int how = below(me, 3);
	size_t length;
	char *address = pick_range(me, &length);

	enter(me, MLOCK, how, length / page, (uintptr_t)address);
	leave(me, how == 0   ? mlock(address, length)
		  : how == 1 ? mlock2(address, length, MLOCK_ONFAULT)
			     : munlock(address, length));
	return true;
}

static bool do_touch_read(struct me *me)
{
	size_t length;
	char *address = pick_range(me, &length);
	unsigned char strange;
	unsigned int kind;
	long at;

	if (length > 256 && chance(me, 50))
		address += length - 256;
	if (length > 256)
		length = 256;
	enter(me, TOUCH_READ, length, 0, (uintptr_t)address);
	if (leave(me, copy_out(me, address, length)) <= 0 || !w.auditor)
		return true;
	kind = page_kinds[page_of(address)];
	if (!(A(kind) & PRIVATE_KINDS) || page_of(address) != page_of(address + length - 1))
		return true;
	at = find_strange(me, address, length, w.tag, &strange);
	if (at >= 0)
		finding("memory of kind %u shows 0x%02x, which this process did not write", kind, strange);
	atomic_fetch_add(&sh->audits, 1);
	return true;
}

static bool do_touch_write(struct me *me)
{
	size_t length;
	char *address = pick_range(me, &length);

	if (length > page && chance(me, 50))
		address += length - page;
	if (length > page)
		length = page;
	enter(me, TOUCH_WRITE, length, 0, (uintptr_t)address);
	leave(me, copy_in(me, address, length, TAG_OFFSET));
	return true;
}

static bool do_process_vm(struct me *me)
{
	struct iovec local = { me->area + SECOND * page, 128 };
	bool writes = chance(me, 40);
	struct iovec remote;
	size_t length;

	remote.iov_base = pick_range(me, &length);
	remote.iov_len = length;
	memset(local.iov_base, w.tag, local.iov_len);
	enter(me, PROCESS_VM, writes, length / page, (uintptr_t)remote.iov_base);
	leave(me, writes ? process_vm_writev(getpid(), &local, 1, &remote, 1, 0)
			 : process_vm_readv(getpid(), &local, 1, &remote, 1, 0));
	return true;
}

static void drain(struct me *me)
{
	static __thread char bytes[4096];

	while (read(me->pipe[0], bytes, sizeof(bytes)) > 0)
		;
}

static bool do_vmsplice(struct me *me)
{
	struct iovec memory;
	size_t length;

	memory.iov_base = pick_range(me, &length);
	memory.iov_len = length;
	enter(me, VMSPLICE, length / page, 0, (uintptr_t)memory.iov_base);
	leave(me, vmsplice(me->pipe[1], &memory, 1, SPLICE_F_NONBLOCK | below(me, 16)));
	drain(me);
	return true;
}

static bool do_splice(struct me *me)
{
	struct target target = pick(me, chance(me, 60) ? DEVICES | BUFS : FOREIGN);
	bool in = chance(me, 50);

	enter(me, SPLICE, target.kind, in, target.fd);
	leave(me, in ? splice(target.fd, NULL, me->pipe[1], NULL, 1 + below(me, page), SPLICE_F_NONBLOCK)
		     : splice(me->pipe[0], NULL, target.fd, NULL, 1 + below(me, page), SPLICE_F_NONBLOCK));
	drain(me);
	return true;
}

static bool do_lseek(struct me *me)
{
	struct target target = pick(me, BUFS | (chance(me, 20) ? DEVICES : 0));
	uint64_t offset = chance(me, 60) ? 0 : edge(me);
	int whence = chance(me, 80) ? SEEK_END * below(me, 2) : below(me, 6);
	off_t got;

	enter(me, LSEEK, target.kind, offset, target.fd);
	got = lseek(target.fd, offset, whence);
	leave(me, got == -1 ? -1 : 0);
	return true;
}

static bool do_read(struct me *me)
{
	struct target target = pick(me, ~0u);

	enter(me, READ, target.kind, 0, target.fd);
	leave(me, read(target.fd, me->area + SECOND * page, 1 + below(me, 256)));
	return true;
}

static bool do_write(struct me *me)
{
	struct target target = pick(me, ~0u);
	void *from = chance(me, 50) ? me->area + SECOND * page : put_in(me, choose_place(me), "", 1);

	enter(me, WRITE, target.kind, 0, target.fd);
	leave(me, write(target.fd, from, to_page_end(from, 1 + below(me, 64))));
	return true;
}

static bool do_poll(struct me *me)
{
	struct pollfd fds[4];
	unsigned int count = 1 + below(me, COUNT(fds));

	for (unsigned int i = 0; i < count; i++)
		fds[i] = (struct pollfd){ pick(me, BUFS | A(SYNC_FILE) | DEVICES).fd, any(me), 0 };
	enter(me, POLL, count, 0, fds[0].fd);
	leave(me, poll(fds, count, 0));
	return true;
}

static bool do_fstat(struct me *me)
{
	struct target target = pick(me, DEVICES | BUFS);
	struct stat status;

	enter(me, FSTAT, target.kind, 0, target.fd);
	leave(me, fstat(target.fd, &status));
	return true;
}

static bool do_ftruncate(struct me *me)
{
	struct target target = pick(me, ~0u);
	uint64_t length = chance(me, 50) ? page * below(me, 16) : edge(me);

	enter(me, FTRUNCATE, target.kind, length, target.fd);
	leave(me, ftruncate(target.fd, length));
	return true;
}

static bool do_fallocate(struct me *me)
{
	struct target target = pick(me, ~0u);
	uint64_t offset = chance(me, 50) ? page * below(me, 16) : edge(me);
	int mode = below(me, 64);

	enter(me, FALLOCATE, target.kind, offset, target.fd);
	leave(me, fallocate(target.fd, mode, offset, page * below(me, 16)));
	return true;
}

static bool do_fcntl(struct me *me)
{
	static const int commands[] = {
		F_DUPFD, F_DUPFD_CLOEXEC, F_GETFD, F_SETFD, F_GETFL, F_SETFL, F_SETFL, F_ADD_SEALS, F_GET_SEALS,
		F_GETPIPE_SZ, F_GETLK, F_SETLK, 1036 /* F_GET_RW_HINT */, 999,
	};
	int command = commands[below(me, COUNT(commands))];
	struct flock lock = { .l_type = below(me, 3), .l_start = edge(me), .l_len = edge(me) };
	struct target target = pick(me, chance(me, 80) ? DEVICES | BUFS : ~0u);
	uintptr_t arg = any(me);
	long ret;

	switch (command) {
	case F_DUPFD:
	case F_DUPFD_CLOEXEC:
		arg = chance(me, 90) ? below(me, WILD_FDS - 100) : edge(me);
		/* Not among the fuzzer's own. */
		if (arg >= WILD_FDS - 100 && arg < 4096)
			arg = 0;
		break;
	case F_SETFL:
		/* Nothing here may ever wait. */
		arg = (arg & (O_APPEND | O_ASYNC | O_DIRECT | O_NOATIME)) | O_NONBLOCK;
		break;
	case F_SETFD:
		arg &= 1;
		break;
	case F_GETLK:
	case F_SETLK:
	case 1036:
		arg = (uintptr_t)&lock;
		break;
	default:
		break;
	}
	enter(me, FCNTL, target.kind, command, target.fd);
	ret = leave(me, fcntl(target.fd, command, arg));
	if (ret >= 0 && (command == F_DUPFD || command == F_DUPFD_CLOEXEC))
		keep(me, ret, target.kind, target.slot ? target.slot->size : 0);
	return true;
}

#define MAX_PASSED 4

union control {
	struct cmsghdr header;
	char bytes[CMSG_SPACE(MAX_PASSED * sizeof(int))];
};

static bool do_send(struct me *me)
{
	struct target target = pick_slot(me, A(SOCKET));
	unsigned int count = 1 + below(me, MAX_PASSED);
	bool outside = chance(me, 70);
	char kinds[MAX_PASSED];
	int fds[MAX_PASSED];
	struct iovec data = { kinds, count };
	union control control = { 0 };
	struct msghdr message = {
		.msg_iov = &data, .msg_iovlen = 1, .msg_control = &control,
		.msg_controllen = CMSG_SPACE(count * sizeof(int)),
	};

	if (w.auditor)
		return false;
	for (unsigned int i = 0; i < count; i++) {
		struct target passed = pick(me, DEVICES | BUFS);

		kinds[i] = passed.kind;
		fds[i] = passed.fd;
	}
	control.header = (struct cmsghdr){
		.cmsg_level = SOL_SOCKET, .cmsg_type = SCM_RIGHTS, .cmsg_len = CMSG_LEN(count * sizeof(int)),
	};
	memcpy(CMSG_DATA(&control.header), fds, count * sizeof(int));
	enter(me, SEND, count, outside, target.fd);
	leave(me, sendmsg(outside ? transport[0] : target.fd, &message, MSG_DONTWAIT | MSG_NOSIGNAL));
	return true;
}

static bool do_receive(struct me *me)
{
	struct target target = pick_slot(me, A(SOCKET));
	bool outside = chance(me, 70);
	char kinds[MAX_PASSED] = { 0 };
	struct iovec data = { kinds, sizeof(kinds) };
	union control control;
	struct msghdr message = {
		.msg_iov = &data, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof(control),
	};
	struct cmsghdr *header;
	long ret;

	if (w.auditor)
		return false;
	enter(me, RECEIVE, outside, 0, target.fd);
	ret = leave(me, recvmsg(outside ? transport[1] : target.fd, &message,
				MSG_DONTWAIT | (chance(me, 80) ? MSG_CMSG_CLOEXEC : 0)));
	header = ret > 0 ? CMSG_FIRSTHDR(&message) : NULL;
	if (!header || header->cmsg_type != SCM_RIGHTS)
		return true;
	for (unsigned int i = 0; i < (header->cmsg_len - CMSG_LEN(0)) / sizeof(int); i++) {
		int fd;

		memcpy(&fd, CMSG_DATA(header) + i * sizeof(int), sizeof(fd));
		keep(me, fd, kinds[i] < SYNC_FILE ? kinds[i] : NONE,
		     A(kinds[i]) & DEVICES ? (off_t)page : lseek(fd, 0, SEEK_END));
	}
	return true;
}

static long slurp(const char *path, char *bytes, size_t size)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	long got;

	if (fd < 0)
		return -1;
	got = read(fd, bytes, size - 1);
	close(fd);
	bytes[got > 0 ? got : 0] = 0;
	return got;
}

static bool do_fdinfo(struct me *me)
{
	struct target target = pick(me, DEVICES | BUFS);
	char path[64], bytes[512];

	snprintf(path, sizeof(path), "/proc/self/fdinfo/%d", target.fd);
	enter(me, FDINFO, target.kind, 0, target.fd);
	leave(me, slurp(path, bytes, sizeof(bytes)));
	return true;
}

static bool do_reopen(struct me *me)
{
	struct target target = pick(me, DEVICES | BUFS | (chance(me, 20) ? ~0u : 0));
	int flags = below(me, 4) | O_NONBLOCK | (chance(me, 50) ? O_CLOEXEC : 0);
	char path[64];
	int fd;

	snprintf(path, sizeof(path), "/proc/self/fd/%d", target.fd);
	enter(me, REOPEN, target.kind, flags, target.fd);
	fd = leave(me, open(path, flags));
	if (fd >= 0)
		keep(me, fd, target.kind, target.slot ? target.slot->size : 0);
	return true;
}

static bool do_epoll(struct me *me)
{
	struct target epoll = pick_slot(me, A(EPOLL));
	struct target target = pick(me, BUFS | A(SYNC_FILE) | DEVICES);
	struct epoll_event event = { .events = any(me) };
	int what = below(me, 4);

	if (epoll.fd < 0)
		return false;
	enter(me, EPOLL_CTL, target.kind, what, target.fd);
	leave(me, what ? epoll_ctl(epoll.fd, what, target.fd, &event) : epoll_wait(epoll.fd, &event, 1, 0));
	return true;
}

/* Names of buffers are read there too. */
static bool do_maps(struct me *me)
{
	static const char *const paths[] = { "/proc/self/maps", "/sys/kernel/debug/dma_buf/bufinfo", "/proc/self/smaps",
					     "/sys/class/misc/ion/bytes" };
	unsigned int i = below(me, COUNT(paths));
	static __thread char bytes[8192];

	enter(me, MAPS, i, 0, 0);
	leave(me, slurp(paths[i], bytes, sizeof(bytes)));
	return true;
}

/*
 * What the modules say of their buffers, in pieces and from anywhere: in
 * between the lists change.
 */
static bool do_lists(struct me *me)
{
	static const char *const paths[] = {
		"/sys/kernel/debug/ion/buffers", "/sys/kernel/debug/ion/buffers", "/sys/kernel/debug/ion/heaps",
		"/sys/kernel/debug/cma_mem/buffers", "/sys/kernel/debug/cma_mem/heaps",
		"/sys/kernel/debug/exporter/buffers", "/sys/class/misc/ion/heap0/bytes",
		"/sys/class/misc/ion/heap2/largest_free", "/sys/class/misc/ion/heap2/peak_bytes",
		"/sys/class/misc/ion/heap3/buffers", "/sys/class/dma_heap/system/bytes",
		"/sys/class/dma_heap/reserved/buffers", "/sys/class/misc/cma_mem/bytes",
		"/sys/kernel/tracing/trace", "/sys/kernel/tracing/trace_pipe",
	};
	static __thread char bytes[4096];
	unsigned int i = below(me, COUNT(paths));
	unsigned int pieces = 1 + below(me, 4);
	long got = -1;
	int error, fd;

	enter(me, LISTS, i, pieces, 0);
	fd = open(paths[i], O_RDONLY | O_CLOEXEC | O_NONBLOCK);
	while (fd >= 0 && pieces--) {
		size_t size = 1 + below(me, chance(me, 50) ? 100 : sizeof(bytes));

		if (chance(me, 60))
			got = read(fd, bytes, size);
		else
			got = pread(fd, bytes, size, chance(me, 90) ? below(me, 8192) : edge(me));
	}
	error = errno;
	if (fd >= 0)
		close(fd);
	errno = error;
	leave(me, got);
	return true;
}

/*
 * vgem attaches a buffer and maps it for its device. One memory must not be
 * mapped more than seven times at once: the debugging of the DMA API counts
 * no further and says so. A buffer of a heap is one dma-buf, which a card maps
 * once; of others there may be many, so that each worker has one of them at a
 * time.
 */
static bool is_alone(int fd)
{
	char path[64], bytes[512];

	snprintf(path, sizeof(path), "/proc/self/fdinfo/%d", fd);
	return slurp(path, bytes, sizeof(bytes)) > 0 &&
	       (strstr(bytes, "exp_name:\tion_lite\n") || strstr(bytes, "exp_name:\tsystem\n") ||
		strstr(bytes, "exp_name:\treserved\n"));
}

static long gem_close(uint32_t handle)
{
	struct drm_gem_close done = { .handle = handle };

	return ioctl(w.card, DRM_IOCTL_GEM_CLOSE, &done);
}

/* While a fence is pending whoever polls has to wait: here it never is for long. */
static long gem_fence(struct me *me, uint32_t handle, int fd)
{
	struct drm_vgem_fence_attach attach = { .handle = handle, .flags = below(me, 2) };
	struct pollfd wait = { .fd = fd, .events = POLLIN | POLLOUT };
	struct dma_buf_export_sync_file file = { .flags = 1 + below(me, 3) };
	struct drm_vgem_fence_signal signal = { 0 };

	if (ioctl(w.card, DRM_IOCTL_VGEM_FENCE_ATTACH, &attach))
		return -1;
	poll(&wait, 1, 0);
	if (chance(me, 50) && !ioctl(fd, DMA_BUF_IOCTL_EXPORT_SYNC_FILE, &file))
		keep(me, file.fd, SYNC_FILE, 0);
	signal.fence = attach.out_fence;
	return ioctl(w.card, DRM_IOCTL_VGEM_FENCE_SIGNAL, &signal);
}

static bool do_gem_import(struct me *me)
{
	struct drm_prime_handle import = { 0 };
	struct target target;
	bool alone;
	long ret;

	if (w.card < 0 || w.slot > 5)
		return false;
	target = pick(me, chance(me, 85) ? OUR_BUFS : ~0u);
	/* A copy of the descriptor, which nobody turns into something else meanwhile. */
	import.fd = fcntl(target.fd, F_DUPFD_CLOEXEC, WILD_FDS);
	alone = is_alone(import.fd);
	if (!alone && (me->in_child || atomic_flag_test_and_set(&w.importing))) {
		close(import.fd);
		return false;
	}
	enter(me, GEM_IMPORT, target.kind, alone, target.fd);
	ret = leave(me, ioctl(w.card, DRM_IOCTL_PRIME_FD_TO_HANDLE, &import));
	if (!ret) {
		if (alone) {
			atomic_store(&handles[atomic_fetch_add(&next_handle, 1) % HANDLES], import.handle);
		} else {
			gem_fence(me, import.handle, import.fd);
			gem_close(import.handle);
		}
	}
	if (!alone)
		atomic_flag_clear(&w.importing);
	close(import.fd);
	return true;
}

static uint32_t some_handle(struct me *me)
{
	return chance(me, 90) ? atomic_load(&handles[below(me, HANDLES)]) : edge(me);
}

static bool do_gem_export(struct me *me)
{
	struct drm_prime_handle export = { .flags = O_CLOEXEC | below(me, 3) };

	if (w.card < 0)
		return false;
	export.handle = some_handle(me);
	enter(me, GEM_EXPORT, 0, 0, export.handle);
	if (!leave(me, ioctl(w.card, DRM_IOCTL_PRIME_HANDLE_TO_FD, &export)))
		keep(me, export.fd, BUF_ION, lseek(export.fd, 0, SEEK_END));
	return true;
}

static bool do_gem_close(struct me *me)
{
	uint32_t handle = some_handle(me);

	if (w.card < 0)
		return false;
	enter(me, GEM_CLOSE, 0, 0, handle);
	leave(me, gem_close(handle));
	return true;
}

static bool do_gem_fence(struct me *me)
{
	uint32_t handle = some_handle(me);

	if (w.card < 0)
		return false;
	enter(me, GEM_FENCE, 0, 0, handle);
	leave(me, gem_fence(me, handle, pick_slot(me, A(BUF_ION)).fd));
	return true;
}

static bool one_call(struct me *me);

/* How a child ends. */
enum { EXITS, KILLS_ITSELF, IS_KILLED };

__attribute__((noreturn))
static void be_child(struct me *me, unsigned int count, int end, pid_t parent)
{
	me->in_child = true;
	me->record = &sh->records[w.slot][MAX_THREADS + me->number];
	atomic_store(&me->record->pid, getpid());
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (getppid() != parent)
		_exit(0);
	for (unsigned int i = 0; i < count && one_call(me); i++)
		;
	if (end == KILLS_ITSELF)
		kill(getpid(), SIGKILL);
	atomic_store(&me->record->pid, 0);
	_exit(0);
}

static void bury(struct me *me, bool now)
{
	int status = 0;

	if (!me->child)
		return;
	if (now && me->child_killed)
		kill(me->child, SIGKILL);
	if (waitpid(me->child, &status, 0) != me->child)
		finding("waitpid: %s", strerrorname_np(errno));
	else if (WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL && me->child_killed)
		atomic_fetch_add(&sh->child_kills, 1);
	else if (status)
		finding("a child ended with status 0x%x", status);
	me->child = 0;
	atomic_fetch_add(&sh->finished, 1);
}

static bool do_fork(struct me *me)
{
	unsigned int count = 1 + below(me, 12);
	int end = below(me, 3);
	uint64_t rng = any(me);
	pid_t parent = getpid();
	pid_t pid;

	if (me->in_child)
		return false;
	bury(me, true);
	/* What a child of an auditor writes it writes while nobody looks. */
	if (end == IS_KILLED && (repeatable || w.auditor))
		end = KILLS_ITSELF;
	enter(me, FORK, count, end, 0);
	pid = fork();
	if (!pid) {
		me->seed = rng;
		me->made = 0;
		be_child(me, end == IS_KILLED ? calls : count, end, parent);
	}
	leave(me, pid);
	if (pid < 0)
		return true;
	atomic_fetch_add(&sh->forks, 1);
	me->child = pid;
	me->child_killed = end != EXITS;
	me->kills_at = end == IS_KILLED ? me->made + count : 0;
	if (repeatable || w.auditor)
		bury(me, false);
	return true;
}

static const struct {
	int row;
	const char *name;
	unsigned int weight;
	bool (*call)(struct me *me);	/* false: not here and now, another one please */
} operations[] = {
	/* the first stands for all the rows of its own */
	{ -1, "ioctl", 430, do_ioctl },
	{ IOCTL_OTHER, "ioctl, another number", 40, do_ioctl_other },
	{ OPEN, "open", 30, do_open },
	{ CLOSE, "close", 45, do_close },
	{ DUP, "dup", 12, do_dup },
	{ FOREIGN_FD, "foreign descriptor", 14, do_foreign },
	{ MMAP, "mmap", 110, do_mmap },
	{ MUNMAP, "munmap", 40, do_munmap },
	{ MREMAP, "mremap", 35, do_mremap },
	{ MPROTECT, "mprotect", 25, do_mprotect },
	{ MADVISE, "madvise", 30, do_madvise },
	{ MSYNC, "msync", 6, do_msync },
	{ MLOCK, "mlock, munlock", 8, do_mlock },
	{ TOUCH_READ, "read from a mapping", 55, do_touch_read },
	{ TOUCH_WRITE, "write to a mapping", 45, do_touch_write },
	{ PROCESS_VM, "process_vm_readv, _writev", 10, do_process_vm },
	{ VMSPLICE, "vmsplice", 6, do_vmsplice },
	{ SPLICE, "splice", 6, do_splice },
	{ LSEEK, "lseek", 14, do_lseek },
	{ READ, "read", 8, do_read },
	{ WRITE, "write", 8, do_write },
	{ POLL, "poll", 16, do_poll },
	{ FSTAT, "fstat", 6, do_fstat },
	{ FTRUNCATE, "ftruncate", 5, do_ftruncate },
	{ FALLOCATE, "fallocate", 5, do_fallocate },
	{ FCNTL, "fcntl", 14, do_fcntl },
	{ SEND, "sendmsg", 12, do_send },
	{ RECEIVE, "recvmsg", 12, do_receive },
	{ FDINFO, "fdinfo", 6, do_fdinfo },
	{ REOPEN, "open /proc/self/fd", 8, do_reopen },
	{ EPOLL_CTL, "epoll_ctl, epoll_wait", 8, do_epoll },
	{ MAPS, "maps, bufinfo, sysfs", 2, do_maps },
	{ LISTS, "debugfs, sysfs, tracefs", 12, do_lists },
	{ GEM_IMPORT, "vgem import", 12, do_gem_import },
	{ GEM_EXPORT, "vgem export", 5, do_gem_export },
	{ GEM_CLOSE, "vgem close", 6, do_gem_close },
	{ GEM_FENCE, "vgem fence", 8, do_gem_fence },
	{ FORK, "fork", 3, do_fork },
};

static unsigned int operation_weight;

static const char *row_name(int row)
{
	if (row < (int)COUNT(commands))
		return commands[row].name;
	for (unsigned int i = 0; i < COUNT(operations); i++)
		if (operations[i].row == row)
			return operations[i].name;
	return "?";
}

/* false: that was the last one. */
static bool one_call(struct me *me)
{
	unsigned int i, n;
	double start;

	if (atomic_load(&sh->stop) || atomic_fetch_add(&sh->next, 1) >= calls)
		return false;
	/* However much chance the call before has used up. */
	me->rng = mix(me->seed, me->made++);
	if (me->child && me->kills_at && me->made > me->kills_at)
		bury(me, true);
	n = atomic_fetch_add(&sh->calls_of[w.slot], 1);
	if (repeatable && w.dies_at && n >= w.dies_at && !me->in_child) {
		atomic_store(&sh->suicide[w.slot], 1);
		kill(getpid(), SIGKILL);
	}
	start = now();
	do {
		n = below(me, operation_weight);
		for (i = 0; n >= operations[i].weight; i++)
			n -= operations[i].weight;
	} while (!operations[i].call(me));
	atomic_fetch_add(&sh->rows[me->row].us, (now() - start) * 1e6);
	return true;
}

/* A worker. */

static int own(int fd)
{
	int high = fcntl(fd, F_DUPFD_CLOEXEC, OWN_FDS);

	close(fd);
	return high;
}

__attribute__((noreturn))
static void give_up(const char *what)
{
	finding("%s: %s", what, strerrorname_np(errno));
	_exit(71);
}

static void on_fault(int number, siginfo_t *info, void *context)
{
	(void)context;
	finding("signal %d at %p", number, info->si_addr);
	_exit(70);
}

static void set_signals(void)
{
	static const int ignored[] = { SIGPIPE, SIGXFSZ, SIGIO, SIGURG };
	static const int fatal[] = { SIGSEGV, SIGBUS, SIGILL, SIGFPE };
	struct sigaction action = { .sa_sigaction = on_fault, .sa_flags = SA_SIGINFO };

	for (unsigned int i = 0; i < COUNT(ignored); i++)
		signal(ignored[i], SIG_IGN);
	for (unsigned int i = 0; i < COUNT(fatal); i++)
		sigaction(fatal[i], &action, NULL);
}

static void set_limits(void)
{
	/* Sparse files that somebody populates are memory. */
	struct rlimit size = { 256 << 10, 256 << 10 };
	struct rlimit core = { 0, 0 };

	setrlimit(RLIMIT_FSIZE, &size);
	setrlimit(RLIMIT_CORE, &core);
}

/* Where memory runs out the OOM killer takes a worker, which is a finding, and nobody who watches. */
static void first_to_go(void)
{
	int fd = open("/proc/self/oom_score_adj", O_WRONLY | O_CLOEXEC);

	if (fd < 0 || write(fd, "1000", 4) != 4)
		give_up("oom_score_adj");
	close(fd);
}

static void drop_rawio(void)
{
	struct __user_cap_header_struct header = { .version = _LINUX_CAPABILITY_VERSION_3 };
	struct __user_cap_data_struct data[2];

	if (syscall(SYS_capget, &header, data))
		give_up("capget");
	data[0].effective &= ~(1u << CAP_SYS_RAWIO);
	data[0].permitted &= ~(1u << CAP_SYS_RAWIO);
	data[0].inheritable = 0;
	if (syscall(SYS_capset, &header, data))
		give_up("capset");
	w.no_rawio = true;
}

static void become_nobody(void)
{
	if (setgroups(0, NULL) || setresgid(65534, 65534, 65534) || setresuid(65534, 65534, 65534))
		give_up("setresuid");
	/* Else /proc/self is root's. */
	prctl(PR_SET_DUMPABLE, 1);
	w.no_rawio = true;
}

static int open_card(void)
{
	char name[16], path[32];

	for (int i = 0; i < 8; i++) {
		struct drm_version version = { .name = name, .name_len = sizeof(name) - 1 };
		int fd;

		snprintf(path, sizeof(path), "/dev/dri/card%d", i);
		fd = open(path, O_RDWR | O_CLOEXEC);
		if (fd < 0)
			continue;
		if (!ioctl(fd, DRM_IOCTL_VERSION, &version) && version.name_len == 4 && !memcmp(name, "vgem", 4))
			return own(fd);
		close(fd);
	}
	return -1;
}

static void prepare_thread(struct me *me, unsigned int number)
{
	static const int guards[] = { GUARD_0, GUARD_1, GUARD_2, GUARD_3 };
	unsigned char tags[256];

	me->number = number;
	me->seed = mix(mix(seed, w.serial), number + 1);
	me->rng = me->seed;
	me->last_closed = WILD_FDS - 1;
	me->record = &sh->records[w.slot][number];
	me->area = mmap(NULL, AREA_PAGES * page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (me->area == MAP_FAILED)
		give_up("mmap");
	for (unsigned int i = 0; i < COUNT(guards); i++)
		mprotect(me->area + guards[i] * page, page, PROT_NONE);
	me->scratch = own(memfd_create("scratch", MFD_CLOEXEC));
	if (me->scratch < 0 || ftruncate(me->scratch, 3 * page))
		give_up("memfd_create");
	memset(tags, w.tag, sizeof(tags));
	for (size_t done = 0; done < page; done += sizeof(tags))
		if (pwrite(me->scratch, tags, sizeof(tags), page + done) != sizeof(tags))
			give_up("pwrite");
	if (pipe2(me->pipe, O_CLOEXEC | O_NONBLOCK))
		give_up("pipe2");
	me->pipe[0] = own(me->pipe[0]);
	me->pipe[1] = own(me->pipe[1]);
}

static void *run_thread(void *arg)
{
	struct me *me = arg;

	self = me;
	while (!atomic_load(&w.go))
		sched_yield();
	atomic_store(&me->record->pid, syscall(SYS_gettid));
	for (unsigned int i = 0; i < w.lifetime && one_call(me); i++)
		;
	bury(me, true);
	atomic_store(&me->record->pid, 0);
	atomic_fetch_add(&sh->finished, 1);
	return NULL;
}

/* Of these there is one in every run, whatever the seed. */
enum { AN_AUDITOR = 1, A_KILLED_ONE };

/* What a worker is like, which its parent needs to know too. */
static void plan(unsigned int slot, unsigned int serial)
{
	struct me dice = { .rng = mix(mix(seed, serial), 0) };
	bool alone, dies;

	memset(&w, 0, sizeof(w));
	w.slot = slot;
	w.serial = serial;
	w.tag = 1 + serial % 255;
	alone = chance(&dice, 40);
	w.threads = alone || serial == AN_AUDITOR ? 1 : threads;
	w.auditor = w.threads == 1 && (chance(&dice, 75) || serial == AN_AUDITOR);
	w.lifetime = (100 + below(&dice, 3000)) / w.threads;
	dies = chance(&dice, 40);
	w.dies_at = dies ? 1 + below(&dice, w.lifetime * w.threads) : 0;
	if (serial == A_KILLED_ONE)
		w.dies_at = 1 + below(&dice, 100);
	w.no_rawio = chance(&dice, 40);
}

__attribute__((noreturn))
static void be_worker(unsigned int slot, unsigned int serial, pid_t parent)
{
	static struct me mes[MAX_THREADS];
	pthread_t ids[MAX_THREADS];
	int null = open("/dev/null", O_RDWR);

	plan(slot, serial);
	self = &mes[0];
	for (int fd = 0; fd < 3; fd++)
		dup2(null, fd);
	if (null > 2)
		close(null);
	set_signals();
	set_limits();
	first_to_go();
	for (unsigned int i = 0; i < SLOTS; i++)
		atomic_store(&slots[i].fd, -1);
	w.card = open_card();
	/* A page before and one behind, which stay as they are. */
	w.arena = mmap(NULL, (ARENA_PAGES + 2) * page, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE,
		       -1, 0);
	if (w.arena == MAP_FAILED)
		give_up("mmap");
	w.arena += page;
	for (unsigned int i = 0; i < w.threads; i++)
		prepare_thread(&mes[i], i);
	for (unsigned int i = 0; i < COUNT(devices); i++) {
		int fd = open(devices[i].path, O_RDWR | O_CLOEXEC);

		if (fd < 0)
			give_up(devices[i].path);
		keep(self, fd, devices[i].kind, page);
	}
	open_others(self);
	if (w.no_rawio && serial % 3)
		drop_rawio();
	else if (w.no_rawio)
		become_nobody();
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (getppid() != parent)
		_exit(0);

	for (unsigned int i = 1; i < w.threads; i++)
		if (pthread_create(&ids[i], NULL, run_thread, &mes[i]))
			give_up("pthread_create");
	/* Only now: a stack could be placed in a hole of the arena. */
	atomic_store(&w.go, 1);
	run_thread(&mes[0]);
	for (unsigned int i = 1; i < w.threads; i++)
		pthread_join(ids[i], NULL);
	_exit(0);
}

/* The parent. */

struct kid {
	pid_t pid;
	unsigned int serial;
	unsigned int dies_at;
	bool killed;
};

static struct kid kids[MAX_PROCESSES];
static unsigned int generations, kills;

struct counters {
	long long buffers, bytes;
};

static long long read_number(const char *device, const char *name)
{
	char path[96], bytes[32];

	snprintf(path, sizeof(path), "/sys/class/misc/%s/%s", device, name);
	return slurp(path, bytes, sizeof(bytes)) > 0 ? atoll(bytes) : -1;
}

static long long oom_kills(void)
{
	char bytes[8192];
	const char *at;

	if (slurp("/proc/vmstat", bytes, sizeof(bytes)) <= 0)
		return -1;
	at = strstr(bytes, "oom_kill ");
	return at ? atoll(at + strlen("oom_kill ")) : -1;
}

static void read_counters(struct counters counters[])
{
	for (unsigned int i = 0; i < COUNTED; i++) {
		const char *device = strrchr(devices[i].path, '/') + 1;

		counters[i].buffers = read_number(device, "buffers");
		counters[i].bytes = read_number(device, "bytes");
	}
}

static void spawn(unsigned int slot)
{
	struct kid *kid = &kids[slot];
	pid_t parent = getpid();

	plan(slot, generations);
	*kid = (struct kid){ .serial = generations++, .dies_at = repeatable ? 0 : w.dies_at };
	atomic_store(&sh->calls_of[slot], 0);
	atomic_store(&sh->suicide[slot], 0);
	memset(sh->records[slot], 0, sizeof(sh->records[slot]));
	kid->pid = fork();
	if (!kid->pid)
		be_worker(slot, kid->serial, parent);
	if (kid->pid < 0) {
		perror("fuzz: fork");
		exit(2);
	}
}

static void check_end(unsigned int slot, int status)
{
	struct kid *kid = &kids[slot];
	bool killed = kid->killed || atomic_load(&sh->suicide[slot]);

	kid->pid = 0;
	self = NULL;
	plan(slot, kid->serial);
	if (killed && WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL) {
		kills++;
		return;
	}
	/* It has said why. */
	if (WIFEXITED(status) && (WEXITSTATUS(status) == 70 || WEXITSTATUS(status) == 71))
		return;
	if (status)
		finding("the process ended with status 0x%x", status);
}

/* true: somebody is still there. */
static bool reap(void)
{
	int status;
	pid_t pid;

	while ((pid = waitpid(-1, &status, WNOHANG | __WALL)) > 0)
		for (unsigned int slot = 0; slot < processes; slot++)
			if (kids[slot].pid == pid)
				check_end(slot, status);
	return pid == 0;
}

static void show_stack(pid_t pid)
{
	char path[64], bytes[2048];

	snprintf(path, sizeof(path), "/proc/%d/stack", pid);
	if (slurp(path, bytes, sizeof(bytes)) > 0)
		fprintf(stderr, "%s", bytes);
}

static void show_records(void)
{
	for (unsigned int slot = 0; slot < processes; slot++)
		for (unsigned int i = 0; i < 2 * MAX_THREADS; i++) {
			struct record *record = &sh->records[slot][i];
			int pid = atomic_load(&record->pid);

			if (!pid)
				continue;
			fprintf(stderr, "worker %u thread %u%s (%d): %s %s (0x%llx, 0x%llx, 0x%llx)\n",
				kids[slot].serial, i % MAX_THREADS, i < MAX_THREADS ? "" : ", its child", pid,
				atomic_load(&record->inside) ? "in" : "after", row_name(atomic_load(&record->row)),
				atomic_load(&record->a), atomic_load(&record->b), atomic_load(&record->c));
			show_stack(pid);
		}
}

static void watch(void)
{
	static unsigned int last;
	static double since;
	unsigned int progress = atomic_load(&sh->returned) + atomic_load(&sh->finished) + generations;

	if (progress != last || !since) {
		last = progress;
		since = now();
		return;
	}
	if (now() - since < PATIENCE_S)
		return;
	fprintf(stderr, "fuzz: no call has returned for %d s. Seed %llu, call %u:\n", PATIENCE_S,
		(unsigned long long)seed, atomic_load(&sh->next));
	show_records();
	exit(3);
}

/* To stderr, whatever stdout is for. */
static void show_progress(void)
{
	static double last;
	unsigned int returned = atomic_load(&sh->returned);

	if (!last)
		last = now();
	if (now() - last < PROGRESS_S)
		return;
	last = now();
	fprintf(stderr, "fuzz: %u of %u calls\n", returned, calls);
}

static void run(void)
{
	bool more;

	do {
		bool left = reap();

		more = atomic_load(&sh->next) < calls && !atomic_load(&sh->stop);
		for (unsigned int slot = 0; slot < processes; slot++) {
			struct kid *kid = &kids[slot];

			if (!kid->pid && more)
				spawn(slot);
			if (kid->pid && kid->dies_at && !kid->killed &&
			    atomic_load(&sh->calls_of[slot]) >= kid->dies_at) {
				kid->killed = true;
				kill(kid->pid, SIGKILL);
			}
		}
		watch();
		show_progress();
		usleep(2000);
		more |= left;
	} while (more);
}

static bool settled(const struct counters *before, struct counters *after)
{
	double deadline = now() + SETTLE_S;

	do {
		read_counters(after);
		if (!memcmp(before, after, COUNTED * sizeof(*before)))
			return true;
		usleep(20000);
	} while (now() < deadline);
	return false;
}

static void print_errors(const struct row *row, const char *format, const char *separator)
{
	const char *between = "";

	for (int error = 1; error <= MAX_ERRNO; error++) {
		unsigned int count = atomic_load(&row->errors[error]);

		if (!count)
			continue;
		printf("%s", between);
		printf(format, strerrorname_np(error) ?: "?", count);
		between = separator;
	}
}

static void print_table(double seconds)
{
	printf("%-32s %9s %9s %8s  errors\n", "call", "made", "succeeded", "ms each");
	for (int i = 0; i < ROWS; i++) {
		const struct row *row = &sh->rows[i];

		unsigned int made = atomic_load(&row->made);

		printf("%-32s %9u %9u %8.2f  ", row_name(i), made, atomic_load(&row->succeeded),
		       made ? atomic_load(&row->us) / 1e3 / made : 0);
		print_errors(row, "%s %u", ", ");
		printf("\n");
	}
	printf("\nseed %llu: %u calls in %.1f s, %.0f a second; %u workers, %u of them killed; %u forks, %u killed; "
	       "%u looks at memory\n", (unsigned long long)seed, atomic_load(&sh->returned), seconds,
	       atomic_load(&sh->returned) / seconds, generations, kills, atomic_load(&sh->forks),
	       atomic_load(&sh->child_kills), atomic_load(&sh->audits));
	if (repeatable)
		printf("digest %016llx\n", (unsigned long long)sh->digest);
}

static void print_string(const char *text)
{
	putchar('"');
	for (; *text; text++)
		if (*text == '"' || *text == '\\')
			printf("\\%c", *text);
		else
			putchar(*text);
	putchar('"');
}

static void print_json(double seconds)
{
	/* As text: it has 64 bits. */
	printf("{\"seed\":\"%llu\",\"calls\":%u,\"processes\":%u,\"threads\":%u,\"seconds\":%.3f,"
	       "\"generations\":%u,\"kills\":%u,\"forks\":%u,\"childKills\":%u,\"audits\":%u,",
	       (unsigned long long)seed, atomic_load(&sh->returned), processes, threads, seconds, generations, kills,
	       atomic_load(&sh->forks), atomic_load(&sh->child_kills), atomic_load(&sh->audits));
	if (repeatable)
		printf("\"digest\":\"%016llx\",", (unsigned long long)sh->digest);
	printf("\"kinds\":{");
	for (int i = 0; i < ROWS; i++) {
		const struct row *row = &sh->rows[i];

		printf("%s", i ? "," : "");
		print_string(row_name(i));
		printf(":{\"made\":%u,\"succeeded\":%u,\"errors\":{", atomic_load(&row->made),
		       atomic_load(&row->succeeded));
		print_errors(row, "\"%s\":%u", ",");
		printf("}}");
	}
	printf("}}\n");
}

static uint64_t number_of(const char *option, const char *text, uint64_t least, uint64_t most)
{
	char *end = NULL;
	uint64_t number = text ? strtoull(text, &end, 0) : 0;

	if (!text || !*text || *end || *text == '-' || number < least || number > most) {
		fprintf(stderr, "fuzz: %s wants a number from %llu to %llu\n", option, (unsigned long long)least,
			(unsigned long long)most);
		exit(2);
	}
	return number;
}

static bool parse(int argc, char **argv)
{
	bool json = false;

	for (int i = 1; i < argc; i++) {
		const char *option = argv[i];

		if (!strcmp(option, "--json")) {
			json = true;
			continue;
		}
		i++;
		if (!strcmp(option, "--seed"))
			seed = number_of(option, argv[i], 0, UINT64_MAX);
		else if (!strcmp(option, "--calls"))
			calls = number_of(option, argv[i], 1, 1000000000);
		else if (!strcmp(option, "--processes"))
			processes = number_of(option, argv[i], 1, MAX_PROCESSES);
		else if (!strcmp(option, "--threads"))
			threads = number_of(option, argv[i], 1, MAX_THREADS);
		else {
			fprintf(stderr, "usage: fuzz [--seed N] [--calls N] [--processes N] [--threads N] [--json]\n");
			exit(2);
		}
	}
	return json;
}

/* Addresses decide too what a call answers: the same ones in every run. */
static void fix_addresses(char **argv)
{
	int old = personality(0xffffffff);

	if (old == -1 || old & ADDR_NO_RANDOMIZE)
		return;
	if (personality(old | ADDR_NO_RANDOMIZE) != -1)
		execv("/proc/self/exe", argv);
}

static void find_secured(void)
{
	struct ion_heap_data heaps[32] = { 0 };
	struct ion_heap_query query = { .cnt = COUNT(heaps), .heaps = (uintptr_t)heaps };
	int fd = open("/dev/ion", O_RDONLY | O_CLOEXEC);

	if (ioctl(fd, ION_IOC_HEAP_QUERY, &query)) {
		perror("fuzz: ION_IOC_HEAP_QUERY");
		exit(2);
	}
	close(fd);
	for (unsigned int i = 0; i < query.cnt; i++)
		if (heaps[i].type == ION_HEAP_TYPE_PROTECTED)
			secured |= 1u << heaps[i].heap_id;
}

/* No mapping of their buffers may be left, not even in the kernel's count. */
static void secure_again(void)
{
	struct ion_legacy_custom custom = { .cmd = ION_LEGACY_SECURE_HEAP };
	int fd = open("/dev/ion", O_RDONLY | O_CLOEXEC);

	for (custom.arg = 0; custom.arg < 32; custom.arg++)
		/* ENOTTY: without handles nobody has unsecured any. */
		if (secured >> custom.arg & 1 && ioctl(fd, ION_LEGACY_IOC_CUSTOM, &custom) && errno != ENOTTY)
			finding("heap %lu cannot be secured: %s", custom.arg, strerrorname_np(errno));
	close(fd);
}

static void prepare(void)
{
	struct rlimit files = { 4096, 4096 };
	char here;

	page = sysconf(_SC_PAGESIZE);
	/* A 32-bit program on a 64-bit kernel has its stack at the top of 4 GiB, and no kernel anywhere. */
	kernel_address = sizeof(void *) == 8 ? (uintptr_t)0xffff800010000000
		       : (uintptr_t)&here > 0xc0000000 ? 0xffffe000 : 0xc1000000;
	for (unsigned int i = 0; i < COUNT(commands); i++)
		command_weight += commands[i].weight;
	for (unsigned int i = 0; i < COUNT(operations); i++)
		operation_weight += operations[i].weight;
	setrlimit(RLIMIT_NOFILE, &files);
	for (unsigned int i = 0; i < COUNT(devices); i++) {
		int fd = open(devices[i].path, O_RDWR | O_CLOEXEC);

		if (fd < 0) {
			fprintf(stderr, "fuzz: %s: %s\n", devices[i].path, strerror(errno));
			exit(2);
		}
		close(fd);
	}
	find_secured();
	sh = mmap(NULL, sizeof(*sh), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (sh == MAP_FAILED || socketpair(AF_UNIX, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, transport)) {
		perror("fuzz");
		exit(2);
	}
	transport[0] = own(transport[0]);
	transport[1] = own(transport[1]);
	/* Whoever a killed worker leaves behind. */
	prctl(PR_SET_CHILD_SUBREAPER, 1);
}

int main(int argc, char **argv)
{
	bool json = parse(argc, argv);
	struct counters before[COUNTED] = { 0 }, after[COUNTED] = { 0 };
	unsigned int findings;
	long long killed;
	double start;
	bool clean;

	fix_addresses(argv);
	prepare();
	repeatable = processes == 1 && threads == 1;
	read_counters(before);
	killed = oom_kills();
	start = now();
	run();
	start = now() - start;
	close(transport[0]);
	close(transport[1]);
	clean = settled(before, after);
	self = NULL;
	secure_again();
	/* It may have taken somebody who was to be killed anyway. */
	if (oom_kills() != killed)
		finding("%lld processes were killed for want of memory", oom_kills() - killed);

	if (json)
		print_json(start);
	else
		print_table(start);
	fflush(stdout);
	findings = atomic_load(&sh->findings);
	for (unsigned int i = 0; i < findings && i < MAX_FINDINGS; i++)
		fprintf(stderr, "fuzz: seed %llu: %s\n", (unsigned long long)seed, sh->messages[i]);
	for (unsigned int i = 0; i < COUNTED; i++)
		if (memcmp(&before[i], &after[i], sizeof(before[i])))
			fprintf(stderr, "fuzz: seed %llu: %s had %lld buffers, %lld bytes, and has %lld, %lld\n",
				(unsigned long long)seed, devices[i].path, before[i].buffers, before[i].bytes,
				after[i].buffers, after[i].bytes);
	return findings || !clean;
}
