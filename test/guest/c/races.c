// SPDX-License-Identifier: MIT
/*
 * Calls that race: each scenario lines up several threads, which then do to
 * the modules, at the same moment and on different processors, what must not
 * get in each other's way.
 *
 *   races [--rounds N] [--seed N] SCENARIO...
 *   races --list                     a line each: name, default rounds, title
 *
 * After each round everything is as it was before: what the devices say they
 * have handed out, the descriptors and the mappings. A line of JSON says how
 * often each call ended how. Exit codes: 0; 1 a breach; 2 usage, or something
 * is missing; 3 a hang, no round in 300 s. A seed repeats the choices and the
 * pauses, not the order in which the processors run.
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/dma-buf.h>
#include <linux/dma-heap.h>
#include <linux/videodev2.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/utsname.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "../../../kernel-modules/include/uapi/dmabuf/cma_mem.h"
#include "../../../kernel-modules/include/uapi/dmabuf/exporter.h"
#include "../../../kernel-modules/include/uapi/dmabuf/ion.h"
#include "../../../kernel-modules/include/uapi/dmabuf/ion_legacy.h"
#include "drm.h"

#define ARRAY_SIZE(array)	(sizeof(array) / sizeof((array)[0]))

#define MAX_RACERS	8
#define MAX_OUTCOMES	96
#define HANG_S		300
/* How long dying processes and delayed work of the kernel may take. */
#define PATIENCE_MS	20000

#define ION_DMA_HEAP	(1U << 4)
#define ION_SYSTEM_HEAP	(1U << 0)
#define ION_CONTIG_HEAP	(1U << 1)
#define ION_CARVEOUT	(1U << 2)

/*
 * Numbers no new descriptor gets: whoever uses a closed one fails, and does not
 * meet another file.
 */
#define SLOT		600
#define SLOT2		601
#define SLOT3		602

struct outcome {
	const char *what;
	int error;
	unsigned long times;
};

/* Whoever makes calls. In shared memory, for its children count here too. */
struct racer {
	unsigned int id;
	uint32_t random;
	const char *at;		/* the call it makes */
	int inside;		/* a child is in a call */
	int ready;		/* a child has begun */
	unsigned int count;
	struct outcome outcomes[MAX_OUTCOMES];
};

/* set_up and tear_down once, before and after each round: by the referee. */
struct scenario {
	const char *name;
	const char *title;
	unsigned int rounds;
	void (*set_up)(struct racer *referee);
	void (*before)(struct racer *referee);
	void (*racers[MAX_RACERS])(struct racer *r);
	void (*after)(struct racer *referee);
	void (*tear_down)(struct racer *referee);
};

static const struct scenario *scenario;
static uint32_t seed = 1;
static size_t page_size;
static unsigned int processors;
static struct racer *racers;		/* the referee is the last one */
static struct racer *referee;
static unsigned int racer_count;
static pthread_barrier_t line;
static pthread_barrier_t finish;
static atomic_uint lined_up;
static atomic_uint round_now;
static atomic_uint progress;
static atomic_bool over;

/* What the referee has decided for a round. */
static bool closing;
/* Racers whose work the others go on as long as. */
static atomic_int at_work;
/* How long a round takes in which nobody closes anything: for whoever does. */
static uint32_t usual_us;

static void breach(const struct racer *r, const char *format, ...)
	__attribute__((format(printf, 2, 3), noreturn));

/* Also in children, whose exit code their parent looks at. */
static void breach(const struct racer *r, const char *format, ...)
{
	char text[512];
	va_list list;

	va_start(list, format);
	vsnprintf(text, sizeof(text), format, list);
	va_end(list);
	dprintf(2, "races: %s, round %u, --seed %u, racer %u, after %s: %s\n", scenario->name,
		round_now, seed, r->id, r->at, text);
	_exit(1);
}

static void missing(const char *what)
{
	fprintf(stderr, "races: %s: %s: %s\n", scenario ? scenario->name : "", what, strerror(errno));
	exit(2);
}

static const char *name_of(int error)
{
	const char *name = error ? strerrorname_np(error) : "ok";

	return name ? name : "unknown";
}

static void count(struct racer *r, const char *what, int error)
{
	struct outcome *outcome = r->outcomes;

	for (; outcome < r->outcomes + r->count; outcome++) {
		if (!strcmp(outcome->what, what) && outcome->error == error) {
			outcome->times++;
			return;
		}
	}
	if (r->count == MAX_OUTCOMES)
		breach(r, "more than %d kinds of outcome", MAX_OUTCOMES);
	*outcome = (struct outcome){ what, error, 1 };
	/* In this order, for a child may be killed here. */
	__atomic_store_n(&r->count, r->count + 1, __ATOMIC_RELEASE);
}

#define ERRNOS(...)	((const int[]){ __VA_ARGS__, 0 })
#define NONE		((const int[]){ 0 })

static long settle(struct racer *r, long result, const int *allowed)
{
	int error = result == -1 ? errno : 0;

	for (; error && *allowed != error; allowed++)
		if (!*allowed)
			breach(r, "unexpected %s", name_of(error));
	count(r, r->at, error);
	errno = error;
	return result;
}

/* A call that may fail in these ways and no other. */
#define TRY(r, what, call, allowed)	((r)->at = (what), settle((r), (long)(call), (allowed)))

static uint32_t mix(uint32_t x)
{
	x ^= x >> 16;
	x *= 0x7feb352d;
	x ^= x >> 15;
	x *= 0x846ca68b;
	return x ^ x >> 16;
}

static uint32_t below(struct racer *r, uint32_t limit)
{
	r->random = r->random * 1664525 + 1013904223;
	return mix(r->random) % limit;
}

/* Half of the time not at all, else up to so many turns. */
static void jitter(struct racer *r, uint32_t turns)
{
	uint32_t left = below(r, 2) ? below(r, turns) : 0;

	while (left--)
		__asm__ volatile("" ::: "memory");
}

static void doze(struct racer *r, uint32_t most_us)
{
	struct timespec t = { .tv_nsec = 1000L * below(r, most_us + 1) };

	nanosleep(&t, NULL);
}

static long ms_now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (long)(t.tv_sec % 1000000) * 1000 + t.tv_nsec / 1000000;
}

/* Files of one line or of a few. */
static long read_text(const char *path, char *text, size_t size)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	ssize_t got;
	int error;

	if (fd < 0)
		return -1;
	got = read(fd, text, size - 1);
	error = errno;
	close(fd);
	errno = error;
	if (got >= 0)
		text[got] = 0;
	return got;
}

static long write_text(const char *path, const char *text)
{
	int fd = open(path, O_WRONLY | O_CLOEXEC);
	ssize_t done;
	int error;

	if (fd < 0)
		return -1;
	done = write(fd, text, strlen(text));
	error = errno;
	close(fd);
	errno = error;
	return done;
}

/* The number after a word, -1 without it. */
static long long number_in(const char *path, const char *word)
{
	char text[8192];
	const char *at;

	if (read_text(path, text, sizeof(text)) < 0)
		return -1;
	at = strstr(text, word);
	return at ? strtoll(at + strlen(word), NULL, 10) : -1;
}

/* ---- what must be the same after as before ---- */

static const char *const devices[] = { "exporter", "ion", "cma_mem" };
#define EXPORTER	0
#define ION		1
#define CMA_MEM		2

struct state {
	long long buffers[ARRAY_SIZE(devices)];
	long long bytes[ARRAY_SIZE(devices)];
	long fds;
	long maps;
};

static struct state idle;

static long long counter(int device, const char *name)
{
	char path[128];

	snprintf(path, sizeof(path), "/sys/class/misc/%s/%s", devices[device], name);
	return number_in(path, "");
}

static bool is_buffer(const char *text)
{
	return strstr(text, "dmabuf") || strstr(text, "/dev/ion") || strstr(text, "/dev/cma_mem") ||
	       strstr(text, "/dev/exporter") || strstr(text, "/dev/dri");
}

static long mapped_buffers(void)
{
	FILE *maps = fopen("/proc/self/maps", "re");
	char text[512];
	long found = 0;

	if (!maps)
		missing("/proc/self/maps");
	while (fgets(text, sizeof(text), maps))
		found += is_buffer(text);
	fclose(maps);
	return found;
}

/* All descriptors, or those that are buffers. */
static long open_fds(bool only_buffers)
{
	DIR *dir = opendir("/proc/self/fd");
	struct dirent *entry;
	char target[256];
	long found = 0;
	ssize_t length;

	if (!dir)
		missing("/proc/self/fd");
	while ((entry = readdir(dir))) {
		length = readlinkat(dirfd(dir), entry->d_name, target, sizeof(target) - 1);
		if (length < 0)
			continue;
		target[length] = 0;
		found += only_buffers ? is_buffer(target) : 1;
	}
	closedir(dir);
	return found;
}

static struct state state_now(void)
{
	struct state now;

	for (size_t i = 0; i < ARRAY_SIZE(devices); i++) {
		now.buffers[i] = counter(i, "buffers");
		now.bytes[i] = counter(i, "bytes");
	}
	now.fds = open_fds(false);
	now.maps = mapped_buffers();
	return now;
}

static void settles_to(struct racer *r, const struct state *wanted)
{
	long until = ms_now() + PATIENCE_MS;
	struct state now;

	while (now = state_now(), memcmp(&now, wanted, sizeof(now))) {
		if (ms_now() < until) {
			usleep(2000);
			continue;
		}
		for (size_t i = 0; i < ARRAY_SIZE(devices); i++)
			if (now.buffers[i] != wanted->buffers[i] || now.bytes[i] != wanted->bytes[i])
				breach(r, "%s counts %lld buffers of %lld bytes, expected %lld of %lld",
				       devices[i], now.buffers[i], now.bytes[i],
				       wanted->buffers[i], wanted->bytes[i]);
		breach(r, "%ld descriptors and %ld mappings, expected %ld and %ld", now.fds,
		       now.maps, wanted->fds, wanted->maps);
	}
}

/* ---- memory ---- */

/* What a page is marked with: never 0. */
static uint32_t mark(uint32_t stamp, size_t page)
{
	return mix(stamp + page) | 1;
}

static void check_page(struct racer *r, const void *address, uint32_t wanted, size_t page)
{
	const volatile uint32_t *words = address;
	size_t last = page_size / sizeof(*words) - 1;

	if (words[0] != wanted || words[last] != wanted)
		breach(r, "page %zu holds %08x ... %08x, expected %08x", page, words[0], words[last],
		       wanted);
}

static void check_zero(struct racer *r, const char *address, size_t pages)
{
	for (size_t i = 0; i < pages; i++)
		check_page(r, address + i * page_size, 0, i);
}

static void check_marks(struct racer *r, const char *address, size_t from, size_t to, uint32_t stamp)
{
	for (size_t i = from; i < to; i++)
		check_page(r, address + i * page_size, mark(stamp, i), i);
}

static void set_marks(char *address, size_t pages, uint32_t stamp)
{
	for (size_t i = 0; i < pages; i++) {
		volatile uint32_t *words = (void *)(address + i * page_size);

		words[0] = mark(stamp, i);
		words[page_size / sizeof(*words) - 1] = mark(stamp, i);
	}
}

static char *map(struct racer *r, int fd, size_t pages)
{
	return (char *)TRY(r, "map", mmap(NULL, pages * page_size, PROT_READ | PROT_WRITE, MAP_SHARED,
					  fd, 0), NONE);
}

static void *map_anonymous(struct racer *r)
{
	return (void *)TRY(r, "map a page", mmap(NULL, page_size, PROT_READ | PROT_WRITE,
						 MAP_PRIVATE | MAP_ANONYMOUS, -1, 0), NONE);
}

static void unmap(struct racer *r, void *address, size_t pages)
{
	TRY(r, "unmap", munmap(address, pages * page_size), NONE);
}

/* New memory is zero, and its owner's alone. */
static void use_memory(struct racer *r, char *address, size_t pages)
{
	uint32_t stamp = below(r, UINT32_MAX);

	check_zero(r, address, pages);
	set_marks(address, pages, stamp);
	jitter(r, 2000);
	check_marks(r, address, 0, pages, stamp);
}

static void use_buffer(struct racer *r, int fd, size_t pages)
{
	char *address = map(r, fd, pages);

	use_memory(r, address, pages);
	unmap(r, address, pages);
}

static int ion_alloc(struct racer *r, int fd, size_t pages, uint32_t heaps, const int *allowed)
{
	struct ion_allocation_data data = {
		.len = pages * page_size,
		.heap_id_mask = heaps,
		.flags = below(r, 2) ? ION_FLAG_CACHED : 0,
	};

	return TRY(r, "alloc", ioctl(fd, ION_IOC_ALLOC, &data), allowed) < 0 ? -1 : (int)data.fd;
}

static int cmem_alloc(struct racer *r, int fd, size_t pages, const int *allowed)
{
	struct cmem_alloc data = {
		.len = pages * page_size,
		.flags = below(r, 2) ? CMEM_FLAG_CACHED : 0,
	};

	return TRY(r, "cmem alloc", ioctl(fd, CMEM_IOC_ALLOC, &data), allowed) < 0 ? -1 : data.fd;
}

static int must_open(struct racer *r, const char *path)
{
	return TRY(r, "open", open(path, O_RDWR | O_CLOEXEC), NONE);
}

/* Opens a device as a number that no new descriptor gets. */
static void open_as(struct racer *r, const char *path, int slot)
{
	int fd = must_open(r, path);

	TRY(r, "dup3", dup3(fd, slot, O_CLOEXEC), NONE);
	close(fd);
}

static const int *unless_closing(void)
{
	static const int closed[] = { EBADF, 0 };

	return closing ? closed : closed + 1;
}

static void close_slot(struct racer *r)
{
	if (!closing)
		return;
	doze(r, usual_us);
	TRY(r, "close the device", close(SLOT), NONE);
}

/* ---- modules ---- */

#define CORE	3

static struct module {
	const char *name;
	int fd;
	char node[32];
	const char *parameters;	/* what it is loaded with, NULL: nothing */
	char delete[48], load[48], held[48], gone[48];
} modules[] = {
	[EXPORTER] = { .name = "exporter" },
	[ION] = { .name = "ion_lite" },
	[CMA_MEM] = { .name = "cma_mem" },
	[CORE] = { .name = "dmabuf_core" },
};

/* What ion_lite has besides. */
static const char *const ion_places[] = {
	"/dev/dma_heap/system", "/dev/dma_heap/reserved", "/sys/class/dma_heap",
	"/sys/class/misc/ion/heap0", "/sys/kernel/debug/ion/buffers",
};

static void open_modules(struct racer *r)
{
	struct utsname uts;
	char path[PATH_MAX];

	(void)r;
	uname(&uts);
	for (int i = 0; i <= CORE; i++) {
		struct module *module = &modules[i];

		snprintf(path, sizeof(path), "/lib/modules/%s/extra/%s.ko", uts.release, module->name);
		module->fd = open(path, O_RDONLY | O_CLOEXEC);
		if (module->fd < 0)
			missing(path);
		if (i != CORE)
			snprintf(module->node, sizeof(module->node), "/dev/%s", devices[i]);
		snprintf(module->delete, sizeof(module->delete), "delete %s", module->name);
		snprintf(module->load, sizeof(module->load), "load %s", module->name);
		snprintf(module->held, sizeof(module->held), "delete %s in use", module->name);
		snprintf(module->gone, sizeof(module->gone), "open %s", module->name);
	}
}

static void close_modules(void)
{
	for (int i = 0; i <= CORE; i++)
		close(modules[i].fd);
}

static long delete_module(const struct module *module)
{
	return syscall(SYS_delete_module, module->name, O_NONBLOCK);
}

static void check_places(struct racer *r, const struct module *module, bool there)
{
	if (module->node[0] && (access(module->node, F_OK) == 0) != there)
		breach(r, "%s is %s", module->node, there ? "not there" : "still there");
	for (size_t i = 0; module == &modules[ION] && i < ARRAY_SIZE(ion_places); i++)
		if ((access(ion_places[i], F_OK) == 0) != there)
			breach(r, "%s is %s", ion_places[i], there ? "not there" : "still there");
}

static bool unload(struct racer *r, const struct module *module)
{
	if (TRY(r, module->delete, delete_module(module), ERRNOS(EAGAIN)) < 0)
		return false;
	check_places(r, module, false);
	return true;
}

static void load(struct racer *r, const struct module *module)
{
	TRY(r, module->load, syscall(SYS_finit_module, module->fd, module->parameters ?: "", 0), NONE);
	check_places(r, module, true);
	/* As before it went. */
	if (module == &modules[CORE])
		TRY(r, "trace", write_text("/sys/kernel/tracing/events/dmabuf/enable", "1"), NONE);
}

/* ion_lite with other heaps than usual, until this is called with NULL. */
static void use_heaps(struct racer *r, const char *parameters)
{
	long until = ms_now() + PATIENCE_MS;

	open_modules(r);
	while (!unload(r, &modules[ION])) {
		if (ms_now() > until)
			breach(r, "ion_lite stays in use");
		usleep(10000);
	}
	modules[ION].parameters = parameters;
	load(r, &modules[ION]);
	close_modules();
}

/* ---- ion: one open file, allocated from by all, closed by another ---- */

#define ION_PAGES	16
#define ION_CLIENTS	4

static void ion_before(struct racer *r)
{
	closing = round_now % 2;
	at_work = ION_CLIENTS;
	open_as(r, "/dev/ion", SLOT);
}

static void ion_allocate(struct racer *r)
{
	static const uint32_t heaps[] = {
		ION_SYSTEM_HEAP, ION_DMA_HEAP, ION_SYSTEM_HEAP | ION_DMA_HEAP, ION_CONTIG_HEAP,
	};
	size_t pages;
	int fd;

	for (int i = 0; i < 4; i++) {
		pages = 1 + below(r, ION_PAGES);
		fd = ion_alloc(r, SLOT, pages, heaps[below(r, ARRAY_SIZE(heaps))], unless_closing());
		if (fd < 0)
			return;
		use_buffer(r, fd, pages);
		TRY(r, "close", close(fd), NONE);
	}
}

static void ion_client(struct racer *r)
{
	ion_allocate(r);
	at_work--;
}

static void ion_sampler(struct racer *r)
{
	long long buffers;
	long long bytes;

	while (at_work) {
		r->at = "reading the counters";
		buffers = counter(ION, "buffers");
		bytes = counter(ION, "bytes");
		if (buffers < 0 || buffers > ION_CLIENTS)
			breach(r, "%lld buffers", buffers);
		if (bytes < 0 || bytes > (long long)(ION_CLIENTS * ION_PAGES * page_size) ||
		    bytes % page_size)
			breach(r, "%lld bytes", bytes);
		count(r, "counters", 0);
	}
}

static void ion_after(struct racer *r)
{
	if (!closing)
		TRY(r, "close the device", close(SLOT), NONE);
}

/* ---- limit: all that threads may have together through one open file, while it is closed ---- */

#define LIMIT_PAGES	24
#define LIMIT_HELD	3

/* Pages of buffers that are there for sure: no more than count. */
static atomic_int limit_pages;

static void limit_set_up(struct racer *r)
{
	static char limit[64];

	snprintf(limit, sizeof(limit), "max_bytes_per_file=%zu", LIMIT_PAGES * page_size);
	use_heaps(r, limit);
}

static void limit_before(struct racer *r)
{
	closing = round_now % 2;
	limit_pages = 0;
	open_as(r, "/dev/ion", SLOT);
}

static void limit_client(struct racer *r)
{
	static const uint32_t heaps[] = { ION_SYSTEM_HEAP, ION_DMA_HEAP, ION_CONTIG_HEAP };
	static const int errors[] = { ENOMEM, EBADF, 0 };
	static const int unless_closed[] = { ENOMEM, 0 };
	size_t held[LIMIT_HELD] = { 0 };
	int fds[LIMIT_HELD];
	unsigned int i;

	for (int turn = 0; turn < 16; turn++) {
		i = below(r, LIMIT_HELD);
		if (held[i]) {
			limit_pages -= held[i];
			held[i] = 0;
			TRY(r, "close", close(fds[i]), NONE);
			continue;
		}
		held[i] = 1 + below(r, LIMIT_PAGES / 2);
		fds[i] = ion_alloc(r, SLOT, held[i], heaps[below(r, ARRAY_SIZE(heaps))],
				   closing ? errors : unless_closed);
		if (fds[i] < 0)
			held[i] = 0;
		else if ((limit_pages += held[i]) > LIMIT_PAGES)
			breach(r, "%d pages of %d", (int)limit_pages, LIMIT_PAGES);
	}
	for (i = 0; i < LIMIT_HELD; i++) {
		limit_pages -= held[i];
		if (held[i])
			TRY(r, "close", close(fds[i]), NONE);
	}
}

/* All of it is there again. */
static void limit_after(struct racer *r)
{
	int fd;

	if (closing)
		return;
	fd = ion_alloc(r, SLOT, LIMIT_PAGES, ION_SYSTEM_HEAP, NONE);
	close(fd);
	TRY(r, "close the device", close(SLOT), NONE);
}

/* ---- kept: what is kept of freed buffers for one open file, while others want all of it ---- */

#define KEPT_CLIENTS	3
#define KEPT_BUFFERS	12

#define ION_POOL	"/sys/kernel/debug/ion/pool"
#define ION_DRAIN	"/sys/kernel/debug/ion/drain"

static long long reused_before;
/* Of CMA, so much that the rest must be given up for it. */
static size_t kept_large_pages;

static void kept_set_up(struct racer *r)
{
	long long kb = number_in("/proc/meminfo", "CmaTotal:");

	kept_large_pages = kb > 0 ? kb * 1024 / 4 * 3 / page_size : 256;
	/* What the system heap has left. */
	TRY(r, "drain", write_text(ION_DRAIN, "1"), NONE);
}

static void kept_before(struct racer *r)
{
	closing = round_now % 2;
	at_work = KEPT_CLIENTS;
	reused_before = number_in(ION_POOL, "reused_bytes");
	open_as(r, "/dev/ion", SLOT);
}

/* Few sizes: most of them are kept. */
static void kept_client(struct racer *r)
{
	static const uint32_t heaps[] = { ION_DMA_HEAP, ION_CONTIG_HEAP };

	for (int i = 0; i < KEPT_BUFFERS; i++) {
		size_t pages = 1 << 2 * below(r, 3);
		int fd = ion_alloc(r, SLOT, pages, heaps[below(r, ARRAY_SIZE(heaps))], unless_closing());

		if (fd < 0)
			break;
		use_buffer(r, fd, pages);
		TRY(r, "close", close(fd), NONE);
	}
	at_work--;
}

static void kept_drain(struct racer *r)
{
	while (at_work) {
		doze(r, 2000);
		TRY(r, "drain", write_text(ION_DRAIN, "1"), NONE);
		doze(r, 2000);
		TRY(r, "drop caches", write_text("/proc/sys/vm/drop_caches", "2"), NONE);
	}
}

static void kept_large(struct racer *r)
{
	int device = must_open(r, "/dev/cma_mem");
	int fd;

	while (at_work) {
		fd = cmem_alloc(r, device, kept_large_pages, ERRNOS(ENOMEM));
		if (fd >= 0)
			TRY(r, "close", close(fd), NONE);
	}
	close(device);
}

/* With the file goes all that was kept for it. */
static void kept_after(struct racer *r)
{
	long until = ms_now() + PATIENCE_MS;

	if (number_in(ION_POOL, "reused_bytes") > reused_before)
		count(r, "reuse", 0);
	if (!closing)
		TRY(r, "close the device", close(SLOT), NONE);
	r->at = "looking for what is kept";
	while (number_in(ION_POOL, "\nbytes") != 0) {
		if (ms_now() > until)
			breach(r, "%lld bytes are kept", number_in(ION_POOL, "\nbytes"));
		usleep(2000);
	}
}

/* ---- regions: of one /dev/cma_mem, found by others while they come up ---- */

#define REGIONS		6	/* of each of the two that allocate */
#define REGION_PAGES	8
#define GUESSES		16

static struct region {
	struct cmamem_info info;
	char *address;		/* NULL: the file was closed before it could be mapped */
} regions[2][REGIONS];
static unsigned int region_counts[2];
/* The highest id and the end of the furthest region that anybody was told. */
static atomic_uint last_id;
static atomic_uint last_page;

static struct {
	uint32_t id;
	int fd;
} exports[GUESSES];
static unsigned int export_count;

static struct {
	size_t page;
	char *address;
} views[GUESSES];
static unsigned int view_count;

static void regions_before(struct racer *r)
{
	closing = round_now % 2;
	at_work = 2;
	region_counts[0] = 0;
	region_counts[1] = 0;
	last_id = 0;
	last_page = 0;
	export_count = 0;
	view_count = 0;
	open_as(r, "/dev/cma_mem", SLOT);
}

static void raise_to(atomic_uint *highest, unsigned int value)
{
	unsigned int before = *highest;

	while (before < value && !atomic_compare_exchange_weak(highest, &before, value))
		;
}

static void allocate_some(struct racer *r)
{
	size_t pages;
	struct region *region;
	char *address;
	int fd;

	for (int i = 0; i < REGIONS; i++) {
		/* Single pages come from elsewhere, and faster. */
		pages = below(r, 2) ? 1 : 1 + below(r, REGION_PAGES);
		if (below(r, 4) == 0) {
			fd = cmem_alloc(r, SLOT, pages, unless_closing());
			if (fd < 0)
				return;
			use_buffer(r, fd, pages);
			TRY(r, "close", close(fd), NONE);
		}
		region = &regions[r->id][i];
		*region = (struct region){
			.info = { .len = pages * page_size, .is_cache = below(r, 2) },
		};
		if (TRY(r, "allocate", ioctl(SLOT, CMEM_ALLOCATE, &region->info), unless_closing()) < 0)
			return;
		region_counts[r->id]++;
		raise_to(&last_id, region->info.id);
		raise_to(&last_page, (region->info.offset + region->info.len) / page_size);
		address = (char *)TRY(r, "map a region",
				      mmap(NULL, region->info.len, PROT_READ | PROT_WRITE, MAP_SHARED,
					   SLOT, region->info.offset), unless_closing());
		if (address == MAP_FAILED)
			return;
		region->address = address;
		check_zero(r, address, pages);
		set_marks(address, pages, region->info.id);
	}
}

static void allocate_regions(struct racer *r)
{
	allocate_some(r);
	at_work--;
}

/* These come up as well, and go at once: their maker cannot be told. Nobody may find them. */
static void fail_regions(struct racer *r)
{
	const int *allowed = closing ? ERRNOS(EFAULT, EBADF) : ERRNOS(EFAULT);
	struct cmamem_info *info = map_anonymous(r);

	while (at_work) {
		info->len = (1 + below(r, REGION_PAGES)) * page_size;
		mprotect(info, page_size, PROT_READ);
		if (TRY(r, "allocate untold", ioctl(SLOT, CMEM_ALLOCATE, info), allowed) != -1)
			breach(r, "it told what it cannot have told");
		if (errno == EBADF)
			break;
		mprotect(info, page_size, PROT_READ | PROT_WRITE);
		doze(r, 2000);
	}
	munmap(info, page_size);
}

/* Ids count up from 1: the next ones are guessed, too, before they are there. */
static void export_guesses(struct racer *r)
{
	const int *allowed = closing ? ERRNOS(EINVAL, EBADF) : ERRNOS(EINVAL);

	while (at_work && export_count < GUESSES) {
		struct cmem_export data = {
			.id = last_id + below(r, 4),
			.fd_flags = O_CLOEXEC | (below(r, 2) ? O_RDONLY : O_RDWR),
		};

		if (TRY(r, "export a guess", ioctl(SLOT, CMEM_IOC_EXPORT, &data), allowed) == 0) {
			exports[export_count].id = data.id;
			exports[export_count++].fd = data.fd;
		} else if (errno == EBADF) {
			return;
		}
		doze(r, 2000);
	}
}

static void map_guesses(struct racer *r)
{
	const int *allowed = closing ? ERRNOS(EINVAL, EBADF) : ERRNOS(EINVAL);
	char *address;
	size_t page;

	while (at_work && view_count < GUESSES) {
		page = below(r, last_page + REGION_PAGES);
		address = (char *)TRY(r, "map a guess",
				      mmap(NULL, page_size, PROT_READ, MAP_SHARED, SLOT,
					   (off_t)(page * page_size)), allowed);
		if (address != MAP_FAILED) {
			views[view_count].page = page;
			views[view_count++].address = address;
		} else if (errno == EBADF) {
			return;
		}
		doze(r, 2000);
	}
}

static bool overlap(uint64_t a, uint64_t a_length, uint64_t b, uint64_t b_length)
{
	return a < b + b_length && b < a + a_length;
}

/* All are there at the same time, so no two may have anything in common. */
static void check_regions(struct racer *r, const struct region *all, unsigned int total)
{
	r->at = "looking at the regions";
	for (unsigned int i = 0; i < total; i++) {
		const struct cmamem_info *a = &all[i].info;

		for (unsigned int j = 0; j < i; j++) {
			const struct cmamem_info *b = &all[j].info;

			if (a->id == b->id)
				breach(r, "two regions have the id %u", a->id);
			if (overlap(a->offset, a->len, b->offset, b->len))
				breach(r, "regions %u and %u have common offsets", a->id, b->id);
			if (overlap(a->phy_base, a->len, b->phy_base, b->len))
				breach(r, "regions %u and %u have common memory", a->id, b->id);
		}
		if (all[i].address)
			check_marks(r, all[i].address, 0, a->len / page_size, a->id);
	}
}

static void check_exports(struct racer *r, const struct region *all, unsigned int total)
{
	for (unsigned int i = 0; i < export_count; i++) {
		const struct region *region = all;
		char *address;

		while (region < all + total && region->info.id != exports[i].id)
			region++;
		r->at = "export a guess";
		if (region == all + total)
			breach(r, "region %u was exported and is nobody's", exports[i].id);
		if (lseek(exports[i].fd, 0, SEEK_END) != (off_t)region->info.len)
			breach(r, "region %u was exported with another size", exports[i].id);
		address = (char *)TRY(r, "map an export",
				      mmap(NULL, region->info.len, PROT_READ, MAP_SHARED,
					   exports[i].fd, 0), NONE);
		if (region->address)
			check_marks(r, address, 0, region->info.len / page_size, region->info.id);
		else
			check_zero(r, address, region->info.len / page_size);
		unmap(r, address, region->info.len / page_size);
		close(exports[i].fd);
	}
}

static void check_views(struct racer *r, const struct region *all, unsigned int total)
{
	for (unsigned int i = 0; i < view_count; i++) {
		const struct region *region = all;
		size_t first = 0;

		for (; region < all + total; region++) {
			first = region->info.offset / page_size;
			if (views[i].page >= first &&
			    views[i].page < first + region->info.len / page_size)
				break;
		}
		r->at = "map a guess";
		if (region == all + total)
			breach(r, "page %zu was mapped and is nobody's", views[i].page);
		check_page(r, views[i].address,
			   region->address ? mark(region->info.id, views[i].page - first) : 0,
			   views[i].page);
		unmap(r, views[i].address, 1);
	}
}

static void regions_after(struct racer *r)
{
	struct region all[2 * REGIONS];
	unsigned int total = 0;

	if (!closing)
		TRY(r, "close the device", close(SLOT), NONE);
	for (int i = 0; i < 2; i++)
		for (unsigned int j = 0; j < region_counts[i]; j++)
			all[total++] = regions[i][j];
	check_regions(r, all, total);
	check_exports(r, all, total);
	check_views(r, all, total);
	for (unsigned int i = 0; i < total; i++)
		if (all[i].address)
			unmap(r, all[i].address, all[i].info.len / page_size);
}

/* ---- connect: files that show each other's regions, which come and go ---- */

#define CONNECT_TURNS	6

/* An id that may be given up, 0: none. */
static atomic_uint offered;

static const int *also_if_closing(const int *always, const int *closed)
{
	return closing ? closed : always;
}

static void connect_before(struct racer *r)
{
	closing = round_now % 2;
	at_work = 2;
	last_id = 0;
	last_page = 0;
	offered = 0;
	for (int slot = SLOT; slot <= SLOT3; slot++)
		open_as(r, "/dev/cma_mem", slot);
}

static void give_up(struct racer *r, uint32_t id)
{
	struct cmamem_info info = { .id = id };

	TRY(r, "give up", ioctl(SLOT, CMEM_UNMAP, &info),
	    also_if_closing(ERRNOS(EINVAL), ERRNOS(EINVAL, EBADF)));
}

/* What is mapped stays whoever gives it up, and is nobody else's meanwhile. */
static void come_and_go(struct racer *r)
{
	for (int i = 0; i < CONNECT_TURNS; i++) {
		size_t pages = 1 + below(r, REGION_PAGES);
		struct cmamem_info info = { .len = pages * page_size, .is_cache = below(r, 2) };
		char *address;

		if (TRY(r, "allocate", ioctl(SLOT, CMEM_ALLOCATE, &info), unless_closing()) < 0)
			return;
		raise_to(&last_id, info.id);
		raise_to(&last_page, (info.offset + info.len) / page_size);
		address = (char *)TRY(r, "map a region",
				      mmap(NULL, info.len, PROT_READ | PROT_WRITE, MAP_SHARED, SLOT,
					   info.offset), unless_closing());
		if (address == MAP_FAILED)
			return;
		check_zero(r, address, pages);
		set_marks(address, pages, info.id);
		offered = info.id;
		doze(r, 500);
		give_up(r, info.id);
		check_marks(r, address, 0, pages, info.id);
		unmap(r, address, pages);
	}
}

static void owner(struct racer *r)
{
	come_and_go(r);
	at_work--;
}

static void give_up_offered(struct racer *r)
{
	while (at_work) {
		uint32_t id = atomic_exchange(&offered, 0);

		if (id)
			give_up(r, id);
		doze(r, 500);
	}
}

static void connect_slot(struct racer *r, int from, int to)
{
	struct cmamem_info info = { .id = to };

	TRY(r, "connect", ioctl(from, CMEM_CONNECT, &info),
	    also_if_closing(ERRNOS(EINVAL, EBUSY), ERRNOS(EINVAL, EBUSY, EBADF)));
}

/* Round in circles, were it let; and what is connected goes while others look through it. */
static void connect_slots(struct racer *r)
{
	while (at_work) {
		connect_slot(r, SLOT2 + below(r, 2), SLOT + below(r, 3));
		connect_slot(r, SLOT3, SLOT2);
		if (below(r, 3) == 0)
			open_as(r, "/dev/cma_mem", SLOT2 + below(r, 2));
		doze(r, 500);
	}
}

static void look_through(struct racer *r)
{
	static const unsigned int requests[] = { CMEM_MAP, CMEM_GET_SIZE, CMEM_GET_PHYS, CMEM_CACHE_FLUSH };

	while (at_work) {
		struct cmamem_info info = { .id = last_id - below(r, 3), .len = page_size };
		struct cmem_export export = { .id = info.id, .fd_flags = O_CLOEXEC | O_RDWR };
		int view = SLOT2 + below(r, 2);
		char *address;

		TRY(r, "look at a guess", ioctl(view, requests[below(r, ARRAY_SIZE(requests))], &info),
		    ERRNOS(EINVAL));
		if (TRY(r, "export a guess", ioctl(view, CMEM_IOC_EXPORT, &export), ERRNOS(EINVAL)) == 0)
			close(export.fd);
		address = (char *)TRY(r, "map a guess",
				      mmap(NULL, page_size, PROT_READ, MAP_SHARED, view,
					   (off_t)below(r, last_page + 1) * page_size), ERRNOS(EINVAL));
		if (address != MAP_FAILED) {
			(void)*(volatile char *)address;
			unmap(r, address, 1);
		}
		TRY(r, "allocate in a view", ioctl(view, CMEM_ALLOCATE, &info), ERRNOS(EPERM));
	}
}

/* In a file of its own, connected or not by the time it asks. */
static void connect_new(struct racer *r)
{
	while (at_work) {
		struct cmamem_info info = { .len = page_size };
		int fd = must_open(r, "/dev/cma_mem");

		connect_slot(r, fd, SLOT + below(r, 3));
		TRY(r, "allocate in a new file", ioctl(fd, CMEM_ALLOCATE, &info), ERRNOS(EPERM));
		connect_slot(r, SLOT2 + below(r, 2), fd);
		TRY(r, "close", close(fd), NONE);
		doze(r, 500);
	}
}

static void connect_after(struct racer *r)
{
	for (int slot = closing ? SLOT2 : SLOT; slot <= SLOT3; slot++)
		TRY(r, "close a file", close(slot), NONE);
}

/* ---- slot: one number, behind which the buffers change ---- */

#define SLOT_TURNS	8
#define SLOT_PAGES	4
#define SLOT_NAME	"slot"

static int slot_device;

static void slot_before(struct racer *r)
{
	int fd;

	at_work = 1;
	slot_device = must_open(r, "/dev/ion");
	fd = ion_alloc(r, slot_device, 1, ION_SYSTEM_HEAP, NONE);
	TRY(r, "dup3", dup3(fd, SLOT, O_CLOEXEC), NONE);
	close(fd);
}

static void slot_replace(struct racer *r)
{
	size_t pages;
	int fd;

	for (int i = 0; i < SLOT_TURNS; i++) {
		pages = 1 + below(r, SLOT_PAGES);
		fd = ion_alloc(r, slot_device, pages, ION_SYSTEM_HEAP, NONE);
		use_buffer(r, fd, pages);
		TRY(r, "replace", dup3(fd, SLOT, O_CLOEXEC), NONE);
		TRY(r, "close", close(fd), NONE);
	}
	at_work--;
}

static void slot_close(struct racer *r)
{
	while (at_work) {
		doze(r, usual_us / 4);
		TRY(r, "close the slot", close(SLOT), ERRNOS(EBADF));
	}
}

static void slot_map(struct racer *r)
{
	volatile uint32_t *word;
	uint32_t mine;

	while (at_work) {
		word = (void *)TRY(r, "map the slot", mmap(NULL, page_size, PROT_READ | PROT_WRITE,
							   MAP_SHARED, SLOT, 0), ERRNOS(EBADF));
		if (word != MAP_FAILED) {
			/* Nobody else writes there, past its first word. */
			mine = below(r, UINT32_MAX);
			word[1] = mine;
			jitter(r, 2000);
			if (word[1] != mine)
				breach(r, "the page holds %08x, expected %08x", word[1], mine);
			unmap(r, (void *)word, 1);
		}
	}
}

static void slot_dup(struct racer *r)
{
	off_t size;
	int fd;

	while (at_work) {
		fd = TRY(r, "dup the slot", fcntl(SLOT, F_DUPFD_CLOEXEC, 0), ERRNOS(EBADF));
		if (fd < 0)
			continue;
		size = lseek(fd, 0, SEEK_END);
		if (size < (off_t)page_size || size > (off_t)(SLOT_PAGES * page_size))
			breach(r, "it has %lld bytes", (long long)size);
		jitter(r, 1000);
		TRY(r, "close", close(fd), NONE);
	}
}

static void slot_sync(struct racer *r)
{
	static const __u64 flags[] = { DMA_BUF_SYNC_READ, DMA_BUF_SYNC_WRITE, DMA_BUF_SYNC_RW };
	struct dma_buf_sync sync;
	__u64 how;

	while (at_work) {
		how = flags[below(r, 3)];
		sync.flags = DMA_BUF_SYNC_START | how;
		TRY(r, "sync the slot", ioctl(SLOT, DMA_BUF_IOCTL_SYNC, &sync), ERRNOS(EBADF));
		sync.flags = DMA_BUF_SYNC_END | how;
		TRY(r, "sync the slot", ioctl(SLOT, DMA_BUF_IOCTL_SYNC, &sync), ERRNOS(EBADF));
	}
}

static void slot_name(struct racer *r)
{
	char name[DMA_BUF_NAME_LEN];

	while (at_work) {
		snprintf(name, sizeof(name), SLOT_NAME "%u", below(r, 1000000000));
		TRY(r, "name the slot", ioctl(SLOT, DMA_BUF_SET_NAME_B, (uintptr_t)name),
		    ERRNOS(EBADF));
	}
}

static void slot_info(struct racer *r)
{
	char path[64];
	char text[1024];
	const char *at;
	long size;

	snprintf(path, sizeof(path), "/proc/self/fdinfo/%d", SLOT);
	while (at_work) {
		if (TRY(r, "fdinfo of the slot", read_text(path, text, sizeof(text)),
			ERRNOS(ENOENT)) < 0)
			continue;
		at = strstr(text, "\nsize:\t");
		size = at ? atol(at + 7) : -1;
		if (size < (long)page_size || size > (long)(SLOT_PAGES * page_size) ||
		    !strstr(text, "\nexp_name:\tion_lite\n"))
			breach(r, "it says %s", text);
		at = strstr(text, "\nname:\t");
		if (at && strncmp(at + 7, SLOT_NAME, strlen(SLOT_NAME)))
			breach(r, "it says %s", text);
	}
}

static void slot_after(struct racer *r)
{
	close(slot_device);
	TRY(r, "close the slot", close(SLOT), ERRNOS(EBADF));
}

/* ---- children ---- */

/*
 * Not counted: both could at the same time. What the child counts is the
 * parent's, too, which counts nothing before it is dead.
 */
static pid_t new_child(struct racer *r)
{
	pid_t pid;

	r->at = "fork";
	pid = fork();
	if (pid < 0)
		breach(r, "%s", strerror(errno));
	if (pid == 0)
		prctl(PR_SET_PDEATHSIG, SIGKILL);
	return pid;
}

/* Its exit code, or the signal that ended it, negative. */
static int end_by(int status)
{
	return WIFSIGNALED(status) ? -WTERMSIG(status) : WEXITSTATUS(status);
}

static int end_of(struct racer *r, pid_t pid)
{
	int status;

	if (waitpid(pid, &status, 0) != pid)
		breach(r, "waitpid: %s", strerror(errno));
	return end_by(status);
}

static void reap(struct racer *r, pid_t pid, bool may_be_killed)
{
	int end = end_of(r, pid);

	if (end != 0 && !(may_be_killed && end == -SIGKILL))
		breach(r, end < 0 ? "a child was ended by signal %d" : "a child ended with %d", abs(end));
}

/* ---- mappings: taken apart, moved and inherited while the buffer is closed ---- */

#define MAPPED_PAGES	16
#define PART		4	/* pages for each that takes it apart, and as many for nobody */

static char *mapped;
static uint32_t mapped_stamp;
static int mapped_fd;
static int mapped_device;
static bool children_last;	/* the children have the last mappings */
static pid_t last_children[MAX_RACERS];

static void mappings_before(struct racer *r)
{
	struct cmamem_info info = { .len = MAPPED_PAGES * page_size };
	unsigned int kind = round_now % 3;

	children_last = round_now % 2;
	mapped_device = kind == 2 ? CMA_MEM : ION;
	if (mapped_device == CMA_MEM) {
		mapped_fd = must_open(r, "/dev/cma_mem");
		TRY(r, "allocate", ioctl(mapped_fd, CMEM_ALLOCATE, &info), NONE);
	} else {
		int device = must_open(r, "/dev/ion");

		mapped_fd = ion_alloc(r, device, MAPPED_PAGES, kind ? ION_SYSTEM_HEAP : ION_DMA_HEAP,
				      NONE);
		close(device);
	}
	mapped = map(r, mapped_fd, MAPPED_PAGES);
	mapped_stamp = below(r, UINT32_MAX);
	set_marks(mapped, MAPPED_PAGES, mapped_stamp);
	memset(last_children, 0, sizeof(last_children));
}

static void mappings_close(struct racer *r)
{
	jitter(r, 20000);
	TRY(r, "close", close(mapped_fd), NONE);
}

static void mappings_unmap(struct racer *r)
{
	for (int i = 0; i < PART; i++) {
		check_marks(r, mapped, i, i + 1, mapped_stamp);
		unmap(r, mapped + i * page_size, 1);
		jitter(r, 5000);
	}
}

static char *reserve(struct racer *r, size_t pages)
{
	return (char *)TRY(r, "reserve", mmap(NULL, pages * page_size, PROT_NONE,
					      MAP_PRIVATE | MAP_ANONYMOUS, -1, 0), NONE);
}

static void move_page(struct racer *r, size_t page)
{
	char *target = reserve(r, 1);

	TRY(r, "move", mremap(mapped + page * page_size, page_size, page_size,
			      MREMAP_MAYMOVE | MREMAP_FIXED, target), NONE);
	check_page(r, target, mark(mapped_stamp, page), page);
	if (TRY(r, "grow", mremap(target, page_size, 2 * page_size, MREMAP_MAYMOVE),
		ERRNOS(EFAULT)) != -1)
		breach(r, "a mapping grew beyond its buffer");
	unmap(r, target, 1);
}

static void mappings_move(struct racer *r)
{
	for (size_t i = PART; i < 2 * PART; i++) {
		move_page(r, i);
		jitter(r, 5000);
	}
}

static void mappings_child(struct racer *r)
{
	size_t first = 2 * PART;

	check_marks(r, mapped, first, MAPPED_PAGES, mapped_stamp);
	unmap(r, mapped + first * page_size, 1);
	move_page(r, first + 1);
	check_marks(r, mapped, first + 2, MAPPED_PAGES, mapped_stamp);
}

static void mappings_fork(struct racer *r)
{
	struct timespec pause = { .tv_nsec = 1000L * below(r, 10000) };
	bool stays = children_last || below(r, 2);
	pid_t pid;

	r->ready = 0;
	pid = new_child(r);
	if (pid == 0) {
		struct racer mine = *r;

		/* Its parent does not wait for it: what this one counts is lost. */
		mappings_child(&mine);
		__atomic_store_n(&r->ready, 1, __ATOMIC_RELEASE);
		while (stays)
			sleep(1);
		_exit(0);
	}
	if (children_last) {
		last_children[r->id] = pid;
		return;
	}
	if (stays) {
		nanosleep(&pause, NULL);
		kill(pid, SIGKILL);
	}
	reap(r, pid, stays);
	count(r, stays ? "a child was killed" : "a child ended", 0);
}

static void mappings_after(struct racer *r)
{
	struct state one = idle;
	bool wait;

	one.buffers[mapped_device] += 1;
	one.bytes[mapped_device] += MAPPED_PAGES * page_size;
	one.maps = mapped_buffers();
	r->at = "closing all but some mappings";
	settles_to(r, &one);
	check_marks(r, mapped, 2 * PART, MAPPED_PAGES, mapped_stamp);
	/* Its first half is gone; unmapping nothing is no mistake. */
	unmap(r, mapped, MAPPED_PAGES);
	if (!children_last)
		return;

	for (int i = 0; i < MAX_RACERS; i++)
		while (last_children[i] && !__atomic_load_n(&racers[i].ready, __ATOMIC_ACQUIRE)) {
			wait = waitpid(last_children[i], NULL, WNOHANG) == 0;
			if (!wait)
				breach(r, "a child ended early");
			usleep(1000);
		}
	one.maps = idle.maps;
	r->at = "unmapping all but the children's mappings";
	settles_to(r, &one);
	for (int i = 0; i < MAX_RACERS; i++) {
		if (!last_children[i])
			continue;
		kill(last_children[i], SIGKILL);
		reap(r, last_children[i], true);
		count(r, "a child had the last mapping", 0);
	}
}

/* ---- attach: by several devices at once, through two dma-bufs of one buffer ---- */

/* What vivid wants of a frame of 320x180 RGB24. */
#define FRAME_BYTES	(320 * 180 * 3)

static int cards[3];	/* two files of vgem, and vkms */
static int camera;
static size_t frame_pages;
static const char *const drivers[] = { "vgem", "vkms", "vivid" };

static void modprobe(const char *arguments)
{
	char command[256];

	snprintf(command, sizeof(command), "modprobe %s", arguments);
	if (system(command) != 0) {
		fprintf(stderr, "races: %s: %s failed\n", scenario->name, command);
		exit(2);
	}
}

/* The device below a class of sysfs that one of its files, or its own path, names. */
static int open_device(const char *class, const char *prefix, const char *file, const char *wanted,
		       const char *nodes)
{
	DIR *dir = opendir(class);
	struct dirent *entry;
	char path[PATH_MAX];
	char text[PATH_MAX];
	int fd = -1;

	while (dir && fd < 0 && (entry = readdir(dir))) {
		if (strncmp(entry->d_name, prefix, strlen(prefix)) || strchr(entry->d_name, '-'))
			continue;
		if (file) {
			snprintf(path, sizeof(path), "%s/%s/%s", class, entry->d_name, file);
			if (read_text(path, text, sizeof(text)) < 0)
				continue;
		} else {
			snprintf(path, sizeof(path), "%s/%s", class, entry->d_name);
			if (!realpath(path, text))
				continue;
		}
		if (!strstr(text, wanted))
			continue;
		snprintf(path, sizeof(path), "%s/%s", nodes, entry->d_name);
		fd = open(path, O_RDWR | O_CLOEXEC | O_NONBLOCK);
	}
	if (dir)
		closedir(dir);
	if (fd < 0)
		missing(wanted);
	return fd;
}

static int open_vgem(void)
{
	modprobe("vgem");
	return open_device("/sys/class/drm", "card", NULL, "/vgem/", "/dev/dri");
}

/* What has been done with it may not be over yet. */
static void remove_driver(struct racer *r, const char *driver)
{
	long until = ms_now() + PATIENCE_MS;
	char command[64];

	snprintf(command, sizeof(command), "modprobe -r %s", driver);
	r->at = "removing a driver";
	while (system(command) != 0) {
		if (ms_now() > until)
			breach(r, "%s stays in use", driver);
		usleep(100000);
	}
}

static void attach_set_up(struct racer *r)
{
	struct v4l2_format format = { .type = V4L2_BUF_TYPE_VIDEO_CAPTURE };

	cards[0] = open_vgem();
	modprobe("vkms");
	/* One camera, and nothing else. */
	modprobe("vivid n_devs=1 node_types=1 no_error_inj=1");
	cards[1] = open_device("/sys/class/drm", "card", NULL, "/vgem/", "/dev/dri");
	cards[2] = open_device("/sys/class/drm", "card", NULL, "/vkms/", "/dev/dri");
	camera = open_device("/sys/class/video4linux", "video", "name", "vivid-000-vid-cap", "/dev");

	format.fmt.pix.width = 320;
	format.fmt.pix.height = 180;
	format.fmt.pix.pixelformat = V4L2_PIX_FMT_RGB24;
	format.fmt.pix.field = V4L2_FIELD_NONE;
	TRY(r, "VIDIOC_S_FMT", ioctl(camera, VIDIOC_S_FMT, &format), NONE);
	frame_pages = (FRAME_BYTES + page_size - 1) / page_size;
}

/* SLOT and SLOT2: two dma-bufs over one region, or the same dma-buf twice. */
static void attach_before(struct racer *r)
{
	struct cmamem_info info = { .len = frame_pages * page_size, .is_cache = below(r, 2) };
	bool two = below(r, 2);
	int device;
	int fd;

	closing = round_now % 3 == 1;
	if (!two) {
		device = must_open(r, "/dev/ion");
		fd = ion_alloc(r, device, frame_pages, below(r, 2) ? ION_SYSTEM_HEAP : ION_DMA_HEAP,
			       NONE);
		TRY(r, "dup3", dup3(fd, SLOT, O_CLOEXEC), NONE);
		TRY(r, "dup3", dup3(fd, SLOT2, O_CLOEXEC), NONE);
		close(fd);
		close(device);
		return;
	}
	device = must_open(r, "/dev/cma_mem");
	TRY(r, "allocate", ioctl(device, CMEM_ALLOCATE, &info), NONE);
	for (int slot = SLOT; slot <= SLOT2; slot++) {
		struct cmem_export data = { .id = info.id, .fd_flags = O_RDWR | O_CLOEXEC };

		TRY(r, "export", ioctl(device, CMEM_IOC_EXPORT, &data), NONE);
		TRY(r, "dup3", dup3(data.fd, slot, O_CLOEXEC), NONE);
		close(data.fd);
	}
	close(device);
}

/* Makes a driver attach to a dma-buf and map it, until the handle is closed. */
static bool attach(struct racer *r, int card, int fd, const int *allowed, struct drm_gem_close *handle)
{
	struct drm_prime_handle prime = { .fd = fd };

	if (TRY(r, "import", ioctl(card, DRM_IOCTL_PRIME_FD_TO_HANDLE, &prime), allowed) < 0)
		return false;
	handle->handle = prime.handle;
	return true;
}

static void detach(struct racer *r, int card, struct drm_gem_close *handle)
{
	TRY(r, "GEM_CLOSE", ioctl(card, DRM_IOCTL_GEM_CLOSE, handle), NONE);
}

/*
 * Two threads that import the same dma-buf through the same file get the same
 * handle, and the second to close it is too late.
 */
static void import(struct racer *r, int card, int slot, bool shared)
{
	struct drm_gem_close done = { 0 };

	for (int i = 0; i < 4; i++) {
		if (!attach(r, card, slot, unless_closing(), &done))
			return;
		jitter(r, 5000);
		TRY(r, shared ? "GEM_CLOSE of a shared handle" : "GEM_CLOSE",
		    ioctl(card, DRM_IOCTL_GEM_CLOSE, &done), shared ? ERRNOS(EINVAL) : NONE);
	}
}

static void import_shared(struct racer *r)
{
	import(r, cards[0], SLOT, true);
}

static void import_other_file(struct racer *r)
{
	import(r, cards[1], SLOT2, false);
}

static void import_other_card(struct racer *r)
{
	import(r, cards[2], SLOT2, false);
}

static void attach_sync(struct racer *r)
{
	struct dma_buf_sync sync;

	for (int i = 0; i < 8; i++) {
		int slot = below(r, 2) ? SLOT : SLOT2;

		sync.flags = DMA_BUF_SYNC_START | DMA_BUF_SYNC_RW;
		TRY(r, "sync", ioctl(slot, DMA_BUF_IOCTL_SYNC, &sync), unless_closing());
		jitter(r, 1000);
		sync.flags = DMA_BUF_SYNC_END | DMA_BUF_SYNC_RW;
		TRY(r, "sync", ioctl(slot, DMA_BUF_IOCTL_SYNC, &sync), unless_closing());
	}
}

static void attach_close(struct racer *r)
{
	if (!closing)
		return;
	doze(r, usual_us);
	TRY(r, "close", close(SLOT), NONE);
	jitter(r, 5000);
	TRY(r, "close", close(SLOT2), NONE);
}

static bool queue(struct racer *r, unsigned int index)
{
	struct v4l2_buffer buffer = {
		.type = V4L2_BUF_TYPE_VIDEO_CAPTURE,
		.memory = V4L2_MEMORY_DMABUF,
		.index = index,
		.m.fd = SLOT + index,
	};

	/* How it says that a descriptor is none. */
	return TRY(r, "QBUF", ioctl(camera, VIDIOC_QBUF, &buffer),
		   closing ? ERRNOS(EINVAL) : NONE) == 0;
}

/* Queueing a buffer maps it into the kernel, and a frame is written there. */
static void capture(struct racer *r)
{
	struct v4l2_requestbuffers request = {
		.type = V4L2_BUF_TYPE_VIDEO_CAPTURE,
		.memory = V4L2_MEMORY_DMABUF,
	};
	enum v4l2_buf_type type = V4L2_BUF_TYPE_VIDEO_CAPTURE;
	bool streams = round_now % 3 == 0;

	for (int i = 0; i < (streams ? 1 : 3); i++) {
		request.count = 2;
		TRY(r, "REQBUFS", ioctl(camera, VIDIOC_REQBUFS, &request), NONE);
		if (queue(r, 0) && queue(r, 1) && streams) {
			struct v4l2_buffer buffer = { .type = type, .memory = V4L2_MEMORY_DMABUF };
			struct pollfd ready = { .fd = camera, .events = POLLIN };

			TRY(r, "STREAMON", ioctl(camera, VIDIOC_STREAMON, &type), NONE);
			poll(&ready, 1, 1000);
			TRY(r, "DQBUF", ioctl(camera, VIDIOC_DQBUF, &buffer), ERRNOS(EAGAIN));
		}
		TRY(r, "STREAMOFF", ioctl(camera, VIDIOC_STREAMOFF, &type), NONE);
		request.count = 0;
		TRY(r, "REQBUFS", ioctl(camera, VIDIOC_REQBUFS, &request), NONE);
	}
}

static void attach_after(struct racer *r)
{
	if (closing)
		return;
	TRY(r, "close", close(SLOT), NONE);
	TRY(r, "close", close(SLOT2), NONE);
}

static void attach_tear_down(struct racer *r)
{
	for (size_t i = 0; i < ARRAY_SIZE(cards); i++)
		close(cards[i]);
	close(camera);
	for (size_t i = 0; i < ARRAY_SIZE(drivers); i++)
		remove_driver(r, drivers[i]);
}

/* ---- lists: of buffers and heaps, while these come, change and go ---- */

#define LIST_CLIENTS	3
#define LIST_TURNS	6
#define LIST_PAGES	4
#define LIST_NAME	"list"
/* As debugfs writes a blank. */
#define LIST_NAME_THERE	LIST_NAME "\\040"

static void lists_set_up(struct racer *r)
{
	(void)r;
	cards[0] = open_vgem();
}

static void lists_before(struct racer *r)
{
	(void)r;
	at_work = LIST_CLIENTS;
}

static void name_buffer(struct racer *r, int fd)
{
	char name[DMA_BUF_NAME_LEN];

	snprintf(name, sizeof(name), LIST_NAME " %u", below(r, 1000000000));
	TRY(r, "name", ioctl(fd, DMA_BUF_SET_NAME_B, (uintptr_t)name), NONE);
}

static void list_client(struct racer *r)
{
	static const uint32_t heaps[] = { ION_SYSTEM_HEAP, ION_DMA_HEAP, ION_CONTIG_HEAP };
	int device = must_open(r, "/dev/ion");
	struct drm_gem_close handle = { 0 };

	for (int i = 0; i < LIST_TURNS; i++) {
		size_t pages = 1 + below(r, LIST_PAGES);
		int fd = ion_alloc(r, device, pages, heaps[below(r, ARRAY_SIZE(heaps))], NONE);

		name_buffer(r, fd);
		if (below(r, 2)) {
			attach(r, cards[0], fd, NONE, &handle);
			name_buffer(r, fd);
			doze(r, 2000);
			detach(r, cards[0], &handle);
		}
		doze(r, 500);
		TRY(r, "close", close(fd), NONE);
	}
	close(device);
	at_work--;
}

/* In pieces, between which nobody holds the list for it: what comes is of several moments. */
static size_t read_pieces(struct racer *r, const char *path, char *text, size_t size)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	size_t piece = below(r, 2) ? size : 40 + below(r, 400);
	size_t all = 0;
	ssize_t got;

	r->at = path;
	if (fd < 0)
		breach(r, "open: %s", strerror(errno));
	while ((got = read(fd, text + all, piece < size - 1 - all ? piece : size - 1 - all)) > 0)
		all += got;
	if (got < 0)
		breach(r, "read: %s", strerror(errno));
	close(fd);
	text[all] = 0;
	return all;
}

/* A line of a buffer, or of a device on it. */
static void check_buffer(struct racer *r, const char *line)
{
	char heap[40], cached[8], names[256], device[64], state[16];
	unsigned long long id, size;
	unsigned int attachments;
	int pid;

	if (sscanf(line, "%llu %llu %39s %7s %d %u %255s", &id, &size, heap, cached, &pid, &attachments,
		   names) == 7) {
		if (!id || size < page_size || size > LIST_PAGES * page_size || strncmp(heap, "ion_", 4) ||
		    pid != getpid() || attachments > 1 ||
		    (strcmp(names, "-") && strncmp(names, LIST_NAME_THERE, strlen(LIST_NAME_THERE))))
			breach(r, "it says %s", line);
		count(r, "a buffer", 0);
	} else if (sscanf(line, "%63s %15s", device, state) == 2 &&
		   (!strcmp(state, "mapped") || !strcmp(state, "attached"))) {
		count(r, "a device", 0);
	} else {
		breach(r, "it says %s", line);
	}
}

static void list_buffers(struct racer *r)
{
	static const char title[] = "  buffer         size heap ";
	char *line, *rest;
	char text[8192];

	while (at_work) {
		read_pieces(r, "/sys/kernel/debug/ion/buffers", text, sizeof(text));
		if (strncmp(text, title, strlen(title)))
			breach(r, "it begins with %.80s", text);
		strtok_r(text, "\n", &rest);
		while ((line = strtok_r(NULL, "\n", &rest)))
			check_buffer(r, line);
	}
}

static void list_heaps(struct racer *r)
{
	unsigned long long buffers, bytes, peak;
	unsigned int heaps, all;
	char *line, *rest;
	char text[4096];

	while (at_work) {
		heaps = 0;
		all = 0;
		read_pieces(r, "/sys/kernel/debug/ion/heaps", text, sizeof(text));
		strtok_r(text, "\n", &rest);
		while ((line = strtok_r(NULL, "\n", &rest))) {
			if (sscanf(line, "%*s %*s %*s %llu %llu %llu", &buffers, &bytes, &peak) != 3 ||
			    bytes > peak || bytes < buffers * page_size ||
			    bytes > buffers * LIST_PAGES * page_size)
				breach(r, "it says %s", line);
			heaps++;
			all += buffers;
		}
		if (heaps != 5 || all > LIST_CLIENTS)
			breach(r, "%u heaps and %u buffers", heaps, all);
		count(r, "the heaps", 0);
	}
}

static void list_figures(struct racer *r)
{
	static const char *const files[] = {
		"/sys/class/misc/ion/heap0/buffers", "/sys/class/misc/ion/heap0/bytes",
		"/sys/class/misc/ion/heap4/bytes", "/sys/class/misc/ion/heap1/bytes",
		"/sys/class/dma_heap/system/bytes", "/sys/class/misc/ion/bytes",
	};
	unsigned int i;
	long long value;

	while (at_work) {
		i = below(r, ARRAY_SIZE(files));
		r->at = files[i];
		value = number_in(files[i], "");
		if (value < 0 || value > (i ? (long long)(LIST_CLIENTS * LIST_PAGES * page_size) : LIST_CLIENTS))
			breach(r, "it says %lld", value);
		count(r, "a figure", 0);
	}
}

static void lists_tear_down(struct racer *r)
{
	close(cards[0]);
	remove_driver(r, "vgem");
}

/* ---- carveouts: no page is two buffers' ---- */

#define CARVEOUT_PAGES	64
#define CARVEOUTS	"heaps=0:system:ion_system_heap,1:system_contig:ion_system_contig_heap," \
			"4:dma:ion_dma_heap,2:carveout:first:%zu,3:carveout:second:%zu"
#define CARVEOUT_CLIENTS 4
#define CARVEOUT_HELD	6

static void carveouts_set_up(struct racer *r)
{
	static char heaps[256];

	snprintf(heaps, sizeof(heaps), CARVEOUTS, CARVEOUT_PAGES * page_size, CARVEOUT_PAGES * page_size);
	use_heaps(r, heaps);
}

static void carveouts_before(struct racer *r)
{
	(void)r;
	at_work = CARVEOUT_CLIENTS;
}

/* Fills what it holds with marks of its own, and finds them there as long as it holds it. */
static void carveout_client(struct racer *r)
{
	static const uint32_t heaps[] = { ION_CARVEOUT, ION_CARVEOUT << 1, ION_CARVEOUT * 3 };
	struct {
		char *address;
		size_t pages;
		uint32_t stamp;
	} held[CARVEOUT_HELD] = { 0 }, *one;
	int device = must_open(r, "/dev/ion");
	int fd;

	for (int i = 0; i < 12; i++) {
		one = &held[below(r, CARVEOUT_HELD)];
		if (one->address) {
			check_marks(r, one->address, 0, one->pages, one->stamp);
			unmap(r, one->address, one->pages);
			one->address = NULL;
		}
		one->pages = 1 + below(r, below(r, 4) ? 8 : CARVEOUT_PAGES / 2);
		one->stamp = below(r, UINT32_MAX);
		fd = ion_alloc(r, device, one->pages, heaps[below(r, ARRAY_SIZE(heaps))], ERRNOS(ENOMEM));
		if (fd < 0)
			continue;
		one->address = map(r, fd, one->pages);
		close(fd);
		check_zero(r, one->address, one->pages);
		set_marks(one->address, one->pages, one->stamp);
	}
	for (one = held; one < held + CARVEOUT_HELD; one++) {
		if (!one->address)
			continue;
		check_marks(r, one->address, 0, one->pages, one->stamp);
		unmap(r, one->address, one->pages);
	}
	close(device);
	at_work--;
}

static void carveout_sampler(struct racer *r)
{
	long long most = CARVEOUT_PAGES * page_size;
	long long bytes, left;

	while (at_work) {
		r->at = "reading the figures of a carveout";
		bytes = number_in("/sys/class/misc/ion/heap2/bytes", "");
		left = number_in("/sys/class/misc/ion/heap3/largest_free", "");
		if (bytes < 0 || bytes > most || left < 0 || left > most || bytes % page_size || left % page_size)
			breach(r, "%lld bytes in one, %lld left of the other", bytes, left);
		count(r, left ? "some is left" : "nothing is left", 0);
		doze(r, 3000);
	}
}

static void carveouts_after(struct racer *r)
{
	static const char *const files[] = {
		"/sys/class/misc/ion/heap2/largest_free", "/sys/class/misc/ion/heap3/largest_free",
	};

	/* All buffers are gone before the carveouts are looked at. */
	r->at = "a round";
	settles_to(r, &idle);
	for (size_t i = 0; i < ARRAY_SIZE(files); i++)
		if (number_in(files[i], "") != (long long)(CARVEOUT_PAGES * page_size))
			breach(r, "%lld bytes are left of a carveout", number_in(files[i], ""));
}

static void default_heaps(struct racer *r)
{
	use_heaps(r, NULL);
}

/* ---- handles: of one client, given up and shared by whoever guesses them ---- */

#define HANDLE_OWNERS	2
#define HANDLES_EACH	24

static atomic_int last_handle;

static void handles_set_up(struct racer *r)
{
	use_heaps(r, "legacy_abi=1");
}

static void handles_before(struct racer *r)
{
	closing = round_now % 2;
	at_work = HANDLE_OWNERS;
	last_handle = 0;
	open_as(r, "/dev/ion", SLOT);
	open_as(r, "/dev/ion", SLOT2);
}

/* Others may have given it up, or closed the client. */
static const int *unless_free(void)
{
	static const int gone[] = { EINVAL, EBADF, 0 };
	static const int freed[] = { EINVAL, 0 };

	return closing ? gone : freed;
}

/* A buffer by its handle, mapped; or NULL. */
static char *map_handle(struct racer *r, const char *what, int handle)
{
	struct ion_legacy_fd data = { .handle = handle };
	char *address;

	if (TRY(r, what, ioctl(SLOT, ION_LEGACY_IOC_SHARE, &data), unless_free()) < 0)
		return NULL;
	address = map(r, data.fd, 1);
	if (below(r, 2)) {
		/* In another client the same buffer has another number. */
		struct ion_legacy_fd theirs = { .fd = data.fd };

		TRY(r, "import", ioctl(SLOT2, ION_LEGACY_IOC_IMPORT, &theirs), NONE);
		if (below(r, 2))
			TRY(r, "free an import", ioctl(SLOT2, ION_LEGACY_IOC_FREE, &theirs.handle), NONE);
	}
	TRY(r, "close", close(data.fd), NONE);
	return address;
}

/* Each buffer is marked with its handle. */
static void handle_owner(struct racer *r)
{
	struct ion_legacy_alloc data;
	char *address;

	for (int i = 0; i < HANDLES_EACH; i++) {
		data = (struct ion_legacy_alloc){
			.len = page_size,
			.heap_id_mask = below(r, 2) ? ION_SYSTEM_HEAP : ION_DMA_HEAP,
			.flags = below(r, 2) ? ION_FLAG_CACHED : 0,
		};
		if (TRY(r, "alloc", ioctl(SLOT, ION_LEGACY_IOC_ALLOC, &data), unless_closing()) < 0)
			break;
		last_handle = data.handle;
		jitter(r, 5000);
		address = map_handle(r, "share", data.handle);
		if (address) {
			set_marks(address, 1, data.handle);
			unmap(r, address, 1);
		}
		if (below(r, 4))
			TRY(r, "free", ioctl(SLOT, ION_LEGACY_IOC_FREE, &data.handle), unless_free());
	}
	at_work--;
}

static int guess(struct racer *r)
{
	return last_handle + below(r, 4) - 1;
}

/* Whoever gets a buffer gets that one, however soon its handle is given up. */
static void handle_sharer(struct racer *r)
{
	const volatile uint32_t *words;
	uint32_t first;
	int handle;

	while (at_work) {
		handle = guess(r);
		words = (void *)map_handle(r, "share a guess", handle);
		if (words) {
			first = words[0];
			if (first && first != mark(handle, 0))
				breach(r, "the buffer of %d holds %08x", handle, first);
			unmap(r, (void *)words, 1);
		} else if (errno == EBADF) {
			return;
		}
		doze(r, 1000);
	}
}

static void handle_thief(struct racer *r)
{
	int handle;

	while (at_work) {
		handle = guess(r);
		if (TRY(r, "free a guess", ioctl(SLOT, ION_LEGACY_IOC_FREE, &handle), unless_free()) < 0 &&
		    errno == EBADF)
			return;
		doze(r, 2000);
	}
}

static void handle_sampler(struct racer *r)
{
	struct ion_legacy_flags flags;
	char text[1024];

	while (at_work) {
		r->at = "reading the clients";
		if (read_text("/sys/kernel/debug/ion/clients", text, sizeof(text)) < 0)
			breach(r, "%s", strerror(errno));
		if (strncmp(text, "    pid handles ", 16))
			breach(r, "it begins with %.80s", text);
		count(r, "clients", 0);
		flags = (struct ion_legacy_flags){ .handle = guess(r) };
		if (TRY(r, "flags of a guess", ioctl(SLOT, ION_LEGACY_IOC_GET_FLAGS, &flags),
			unless_free()) < 0 && errno == EBADF)
			return;
		if (flags.flags > ION_FLAG_CACHED)
			breach(r, "flags %lx", flags.flags);
	}
}

static void handles_after(struct racer *r)
{
	if (!closing)
		TRY(r, "close the device", close(SLOT), NONE);
	TRY(r, "close the other client", close(SLOT2), NONE);
}

/* ---- caches: one buffer's, written back by all, while a driver maps it now and then ---- */

#define CLEANERS	4
#define CACHE_PAGES	16
#define CACHE_TURNS	200

static char *cached;

static void caches_set_up(struct racer *r)
{
	handles_set_up(r);
	cards[0] = open_vgem();
}

static void caches_before(struct racer *r)
{
	struct ion_legacy_alloc data = {
		.len = CACHE_PAGES * page_size,
		.heap_id_mask = ION_SYSTEM_HEAP,
		.flags = ION_FLAG_CACHED,
	};
	struct ion_legacy_fd share = { 0 };

	at_work = CLEANERS;
	open_as(r, "/dev/ion", SLOT);
	TRY(r, "alloc", ioctl(SLOT, ION_LEGACY_IOC_ALLOC, &data), NONE);
	share.handle = data.handle;
	TRY(r, "share", ioctl(SLOT, ION_LEGACY_IOC_SHARE, &share), NONE);
	TRY(r, "dup3", dup3(share.fd, SLOT2, O_CLOEXEC), NONE);
	close(share.fd);
	cached = map(r, SLOT2, CACHE_PAGES);
	set_marks(cached, CACHE_PAGES, data.handle);
}

static void cleaner(struct racer *r)
{
	struct ion_legacy_fd all = { .fd = SLOT2 };
	struct ion_legacy_flush part = { .fd = SLOT2 };
	uint32_t size = CACHE_PAGES * page_size;

	for (int i = 0; i < CACHE_TURNS; i++) {
		part.offset = below(r, size);
		/* Often the same pages as others, and as many bytes of them, or fewer. */
		if (below(r, 2))
			part.offset &= ~(page_size - 1);
		part.vaddr = cached + part.offset;
		part.length = 1 + below(r, size - part.offset);
		if (below(r, 2))
			TRY(r, "sync", ioctl(SLOT, ION_LEGACY_IOC_SYNC, &all), NONE);
		else if (below(r, 2))
			TRY(r, "clean", ioctl(SLOT, ION_LEGACY_IOC_CLEAN_CACHES, &part), NONE);
		else
			TRY(r, "clean and drop",
			    ioctl(SLOT, ION_LEGACY_IOC_CLEAN_INV_CACHES, &part), NONE);
	}
	at_work--;
}

static void sometimes_mapped(struct racer *r)
{
	struct drm_gem_close handle = { 0 };

	while (at_work) {
		attach(r, cards[0], SLOT2, NONE, &handle);
		doze(r, 2000);
		detach(r, cards[0], &handle);
		doze(r, 2000);
	}
}

static void caches_after(struct racer *r)
{
	/* The first handle of a client. */
	check_marks(r, cached, 0, CACHE_PAGES, 1);
	unmap(r, cached, CACHE_PAGES);
	TRY(r, "close", close(SLOT2), NONE);
	TRY(r, "close the device", close(SLOT), NONE);
}

static void caches_tear_down(struct racer *r)
{
	close(cards[0]);
	remove_driver(r, "vgem");
	default_heaps(r);
}

/* ---- unload: modules that go while others come to use them ---- */

/* Held for writing while dmabuf_core may be away, on which the others build. */
static pthread_rwlock_t core_lock = PTHREAD_RWLOCK_INITIALIZER;

static void unload_set_up(struct racer *r)
{
	open_modules(r);
	cards[0] = open_vgem();
}

static void unload_before(struct racer *r)
{
	(void)r;
	at_work = 2;
}

static void unload_tear_down(struct racer *r)
{
	close_modules();
	close(cards[0]);
	remove_driver(r, "vgem");
}

/* Sooner or later nobody uses it; or always somebody does. */
static bool unload_at_last(struct racer *r, const struct module *module)
{
	for (int i = 0; i < 100; i++) {
		if (unload(r, module))
			return true;
		doze(r, 10000);
	}
	return false;
}

static void unload_two(struct racer *r)
{
	for (int i = 0; i < 2; i++) {
		const struct module *module = &modules[i ? CMA_MEM : ION];

		doze(r, 200000);
		pthread_rwlock_rdlock(&core_lock);
		if (unload_at_last(r, module))
			load(r, module);
		pthread_rwlock_unlock(&core_lock);
	}
	at_work--;
}

static void unload_all(struct racer *r)
{
	int left = 0;

	doze(r, 200000);
	pthread_rwlock_rdlock(&core_lock);
	if (unload_at_last(r, &modules[EXPORTER]))
		load(r, &modules[EXPORTER]);
	if (unload(r, &modules[CORE]))
		breach(r, "dmabuf_core went away under the others");
	pthread_rwlock_unlock(&core_lock);

	doze(r, 200000);
	pthread_rwlock_wrlock(&core_lock);
	while (left <= CORE && unload_at_last(r, &modules[left]))
		left++;
	doze(r, 5000);
	while (left--)
		load(r, &modules[left]);
	pthread_rwlock_unlock(&core_lock);
	at_work--;
}

/* Somebody deletes what is in use; only whoever unloads may succeed, later. */
static void stays(struct racer *r, const struct module *module)
{
	jitter(r, 20000);
	/* EBUSY: its initialisation goes on, after the node was there to be opened. */
	if (TRY(r, module->held, delete_module(module), ERRNOS(EAGAIN, EBUSY)) == 0)
		breach(r, "%s went away while it was in use", module->name);
}

static void use_exporter(struct racer *r, const struct module *module, int device)
{
	char *text;
	int fd;

	TRY(r, "get a descriptor", ioctl(device, EXPORTER_IOC_GET_FD, &fd), NONE);
	close(device);
	stays(r, module);
	text = map(r, fd, 1);
	close(fd);
	stays(r, module);
	if (strcmp(text, "hello world"))
		breach(r, "the text is %.20s", text);
	unmap(r, text, 1);
}

static void use_ion(struct racer *r, const struct module *module, int device)
{
	struct drm_gem_close handle = { 0 };
	size_t pages = 1 + below(r, 4);
	char *address;
	int fd;

	stays(r, module);
	fd = ion_alloc(r, device, pages, ION_SYSTEM_HEAP | (below(r, 2) ? ION_DMA_HEAP : 0), NONE);
	close(device);
	stays(r, module);
	if (below(r, 2)) {
		/* A driver is the last to have it. */
		attach(r, cards[0], fd, NONE, &handle);
		close(fd);
		stays(r, module);
		detach(r, cards[0], &handle);
		return;
	}
	address = map(r, fd, pages);
	close(fd);
	use_memory(r, address, pages);
	stays(r, module);
	unmap(r, address, pages);
}

static void use_heap(struct racer *r, const struct module *module, int device)
{
	struct dma_heap_allocation_data data = {
		.len = (1 + below(r, 4)) * page_size,
		.fd_flags = O_RDWR | O_CLOEXEC,
	};
	size_t pages = data.len / page_size;
	char *address;

	stays(r, module);
	TRY(r, "alloc from a node", ioctl(device, DMA_HEAP_IOCTL_ALLOC, &data), NONE);
	close(device);
	stays(r, module);
	address = map(r, data.fd, pages);
	close(data.fd);
	use_memory(r, address, pages);
	stays(r, module);
	unmap(r, address, pages);
}

static void use_cma_mem(struct racer *r, const struct module *module, int device)
{
	struct cmamem_info info = { .len = (1 + below(r, 4)) * page_size };
	struct cmem_export data = { .fd_flags = O_RDWR | O_CLOEXEC };
	char *address;

	TRY(r, "allocate", ioctl(device, CMEM_ALLOCATE, &info), NONE);
	data.id = info.id;
	if (below(r, 2)) {
		address = map(r, device, info.len / page_size);
	} else {
		TRY(r, "export", ioctl(device, CMEM_IOC_EXPORT, &data), NONE);
		address = map(r, data.fd, info.len / page_size);
		close(data.fd);
	}
	close(device);
	stays(r, module);
	use_memory(r, address, info.len / page_size);
	unmap(r, address, info.len / page_size);
}

static void unload_user(struct racer *r)
{
	static void (*const use[])(struct racer *, const struct module *, int) = {
		[EXPORTER] = use_exporter, [ION] = use_ion, [CMA_MEM] = use_cma_mem,
	};
	static const char *const nodes[] = { "/dev/dma_heap/system", "/dev/dma_heap/reserved" };
	int device;
	int which;

	while (at_work) {
		if (below(r, 3) == 0) {
			device = TRY(r, "open a node", open(nodes[below(r, 2)], O_RDONLY | O_CLOEXEC),
				     ERRNOS(ENOENT, ENODEV, ENXIO));
			if (device >= 0)
				use_heap(r, &modules[ION], device);
			doze(r, 40000);
			continue;
		}
		which = below(r, ARRAY_SIZE(devices));
		device = TRY(r, modules[which].gone, open(modules[which].node, O_RDWR | O_CLOEXEC),
			     ERRNOS(ENOENT, ENODEV, ENXIO));
		if (device >= 0)
			use[which](r, &modules[which], device);
		doze(r, 40000);
	}
}

static void unload_sampler(struct racer *r)
{
	static const char *const files[] = {
		"/sys/class/misc/%s/buffers", "/sys/class/misc/%s/bytes",
		"/sys/class/misc/%s/max_bytes", "/sys/class/misc/%s/dev",
	};
	char path[64];
	char text[128];

	while (at_work) {
		snprintf(path, sizeof(path), files[below(r, ARRAY_SIZE(files))],
			 devices[below(r, ARRAY_SIZE(devices))]);
		if (TRY(r, "read an attribute", read_text(path, text, sizeof(text)),
			ERRNOS(ENOENT, ENODEV)) >= 0 && (text[0] < '0' || text[0] > '9'))
			breach(r, "%s says %s", path, text);
		TRY(r, "read a module's refcnt", read_text("/sys/module/ion_lite/refcnt", text,
							   sizeof(text)), ERRNOS(ENOENT, ENODEV));
		doze(r, 5000);
	}
}

/*
 * A file that is open while what it is about goes: it says so, or all that it
 * has to say.
 */
static void unload_reader(struct racer *r)
{
	static const char *const files[] = {
		"/sys/kernel/debug/ion/buffers", "/sys/kernel/debug/ion/heaps",
		"/sys/kernel/debug/cma_mem/buffers", "/sys/kernel/debug/cma_mem/heaps",
		"/sys/kernel/debug/exporter/buffers", "/sys/class/misc/ion/heap0/bytes",
		"/sys/class/misc/ion/heap4/name", "/sys/class/dma_heap/system/bytes",
		"/sys/class/dma_heap/reserved/peak_bytes",
	};
	char text[64];
	long got;
	int fd;

	while (at_work) {
		fd = TRY(r, "open a list", open(files[below(r, ARRAY_SIZE(files))], O_RDONLY | O_CLOEXEC),
			 ERRNOS(ENOENT, ENODEV));
		if (fd < 0) {
			doze(r, 2000);
			continue;
		}
		do {
			doze(r, 20000);
			/* EIO: debugfs, ENODEV: sysfs. */
			got = TRY(r, "read a list", read(fd, text, sizeof(text)), ERRNOS(EIO, ENODEV));
		} while (got > 0 && at_work);
		close(fd);
	}
}

static void unload_after(struct racer *r)
{
	char path[64];
	char text[32];

	for (int i = 0; i <= CORE; i++) {
		snprintf(path, sizeof(path), "/sys/module/%s/initstate", modules[i].name);
		if (read_text(path, text, sizeof(text)) < 0 || strcmp(text, "live\n"))
			breach(r, "%s is not loaded", modules[i].name);
	}
}

/* ---- pressure: memory runs short, and is taken back ---- */

#define MEBI		(1L << 20)
/* The heaps leave a sixteenth of RAM to others: hogs go below that, and far above. */
#define LOW_KB		(40 << 10)
#define HIGH_KB		(120 << 10)
#define BALLAST_STEP	(16 * MEBI)
#define HOG_STEP	(2 * MEBI)
#define HOG_STEPS	1024
#define HOGS		2
#define MAX_DRAINS	16

/* How long the hogs may take to take it all. */
#define FILL_MS		300000

static pid_t hogs[HOGS];
static long long hogs_killed;
static int *stop_hogs;
static long long oom_before;
static char drains[MAX_DRAINS][512];
static unsigned int drain_count;

static long long available_kb(void)
{
	return number_in("/proc/meminfo", "MemAvailable:");
}

static long long oom_kills(void)
{
	return number_in("/proc/vmstat", "oom_kill ");
}

/*
 * Most of the memory at once: a file that the kernel fills takes a tenth of the
 * time of pages that processes fault in one by one.
 */
static void take_ballast(struct racer *r)
{
	int file = memfd_create("ballast", MFD_CLOEXEC);
	off_t size = 0;

	while (available_kb() > HIGH_KB + 2 * BALLAST_STEP / 1024) {
		if (fallocate(file, 0, size, BALLAST_STEP))
			breach(r, "no ballast: %s", strerror(errno));
		size += BALLAST_STEP;
	}
}

/* Anonymous memory, or the pages of a file, which have no swap to go to. */
static void hog(int which)
{
	struct racer me = { .id = which, .random = mix(seed + which), .at = "taking memory" };
	struct racer *r = &me;
	int file = which ? open("/dev/shm", O_TMPFILE | O_RDWR | O_CLOEXEC, 0600) : -1;
	long goal_kb = HIGH_KB;
	unsigned int steps = 0;
	static char *parts[HOG_STEPS];

	write_text("/proc/self/oom_score_adj", "1000");
	if (which && file < 0)
		breach(r, "/dev/shm: %s", strerror(errno));
	if (which == 0)
		take_ballast(r);
	while (!__atomic_load_n(stop_hogs, __ATOMIC_RELAXED)) {
		long long kb = available_kb();

		if (kb < goal_kb)
			goal_kb = LOW_KB + below(r, HIGH_KB - LOW_KB);
		if (kb > goal_kb + HOG_STEP / 1024 && steps < HOG_STEPS) {
			char *part = mmap(NULL, HOG_STEP, PROT_READ | PROT_WRITE,
					  which ? MAP_SHARED : MAP_PRIVATE | MAP_ANONYMOUS, file,
					  (off_t)steps * HOG_STEP);

			if (part == MAP_FAILED || (which && ftruncate(file, (steps + 1) * HOG_STEP)))
				breach(r, "a hog gets nothing: %s", strerror(errno));
			for (long i = 0; i < HOG_STEP; i += page_size)
				part[i] = 1;
			parts[steps++] = part;
		} else if (kb < goal_kb && steps > 0) {
			munmap(parts[--steps], HOG_STEP);
			if (which && ftruncate(file, (off_t)steps * HOG_STEP))
				breach(r, "a hog keeps all: %s", strerror(errno));
		} else {
			doze(r, 20000);
			if (below(r, 8) == 0)
				goal_kb = LOW_KB + below(r, HIGH_KB - LOW_KB);
		}
	}
	_exit(0);
}

/* Files whose name says that something is given back when they are written. */
static void find_drains(const char *directory)
{
	DIR *dir = opendir(directory);
	struct dirent *entry;

	while (dir && (entry = readdir(dir))) {
		if (!strstr(entry->d_name, "drain") || drain_count == MAX_DRAINS)
			continue;
		snprintf(drains[drain_count++], sizeof(drains[0]), "%s/%s", directory, entry->d_name);
	}
	if (dir)
		closedir(dir);
}

static void start_hog(struct racer *r, int which)
{
	hogs[which] = new_child(r);
	if (hogs[which] == 0)
		hog(which);
}

static void hog_ended(struct racer *r, int end)
{
	if (end != -SIGKILL)
		breach(r, "a hog ended with %d", end);
	hogs_killed++;
	count(r, "hog killed for want of memory", 0);
}

/* Until the hogs have what they want; who was killed for it begins anew. */
static void pressure_before(struct racer *r)
{
	long until = ms_now() + FILL_MS;
	int status;

	for (;;) {
		for (int i = 0; i < HOGS; i++) {
			if (waitpid(hogs[i], &status, WNOHANG) == 0)
				continue;
			hog_ended(r, end_by(status));
			start_hog(r, i);
		}
		r->at = "waiting for the hogs";
		if (available_kb() < HIGH_KB + 2 * HOG_STEP / 1024)
			return;
		if (ms_now() > until)
			breach(r, "memory does not run short: %lld KiB are left", available_kb());
		progress++;
		usleep(10000);
	}
}

static void pressure_set_up(struct racer *r)
{
	char path[128];

	find_drains("/sys/kernel/debug/ion");
	for (size_t i = 0; i < ARRAY_SIZE(modules); i++) {
		snprintf(path, sizeof(path), "/sys/kernel/debug/%s", modules[i].name);
		find_drains(path);
	}
	oom_before = oom_kills();
	hogs_killed = 0;
	stop_hogs = mmap(NULL, sizeof(*stop_hogs), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS,
			 -1, 0);
	if (stop_hogs == MAP_FAILED)
		missing("shared memory");
	cards[0] = open_vgem();
	for (int i = 0; i < HOGS; i++)
		start_hog(r, i);
}

/* Small ones as often as large ones. */
static size_t mixed_pages(struct racer *r, unsigned int orders)
{
	size_t most = (size_t)1 << below(r, orders);

	return most + below(r, most);
}

static void pressure_ion(struct racer *r)
{
	int device = must_open(r, "/dev/ion");
	int fds[4];

	for (size_t i = 0; i < ARRAY_SIZE(fds); i++) {
		bool contiguous = below(r, 3) == 0;
		size_t pages = mixed_pages(r, contiguous ? 7 : 9);

		fds[i] = ion_alloc(r, device, pages, contiguous ? ION_DMA_HEAP : ION_SYSTEM_HEAP,
				   ERRNOS(ENOMEM));
		if (fds[i] >= 0)
			use_buffer(r, fds[i], pages);
	}
	for (size_t i = 0; i < ARRAY_SIZE(fds); i++)
		if (fds[i] >= 0)
			TRY(r, "close", close(fds[i]), NONE);
	close(device);
}

static void pressure_cma_mem(struct racer *r)
{
	int device = must_open(r, "/dev/cma_mem");

	for (int i = 0; i < 3; i++) {
		size_t pages = mixed_pages(r, 7);
		struct cmamem_info info = { .len = pages * page_size, .is_cache = below(r, 2) };
		int fd = cmem_alloc(r, device, pages, ERRNOS(ENOMEM));

		TRY(r, "allocate", ioctl(device, CMEM_ALLOCATE, &info), ERRNOS(ENOMEM));
		if (fd < 0)
			continue;
		use_buffer(r, fd, pages);
		TRY(r, "close", close(fd), NONE);
	}
	close(device);
}

static void pressure_attach(struct racer *r)
{
	int device = must_open(r, "/dev/ion");
	struct drm_gem_close handle = { 0 };

	for (int i = 0; i < 6; i++) {
		int fd = ion_alloc(r, device, mixed_pages(r, 9), ION_SYSTEM_HEAP, ERRNOS(ENOMEM));

		if (fd < 0)
			continue;
		if (attach(r, cards[0], fd, ERRNOS(ENOMEM), &handle)) {
			close(fd);
			jitter(r, 5000);
			detach(r, cards[0], &handle);
		} else {
			close(fd);
		}
	}
	close(device);
}

static void pressure_drain(struct racer *r)
{
	static const char *const what[] = { "1", "2", "3" };

	TRY(r, "drop caches", write_text("/proc/sys/vm/drop_caches", what[below(r, 3)]), NONE);
	if (below(r, 2))
		TRY(r, "compact", write_text("/proc/sys/vm/compact_memory", "1"), ERRNOS(ENOENT));
	for (unsigned int i = 0; i < drain_count; i++)
		TRY(r, "drain", write_text(drains[i], "1"), NONE);
}

static void pressure_tear_down(struct racer *r)
{
	int end;

	__atomic_store_n(stop_hogs, 1, __ATOMIC_RELAXED);
	for (int i = 0; i < HOGS; i++) {
		r->at = "ending the hogs";
		end = end_of(r, hogs[i]);
		if (end)
			hog_ended(r, end);
	}
	munmap(stop_hogs, sizeof(*stop_hogs));
	/* Whatever it has killed is somebody who had nothing to do with it. */
	if (oom_kills() - oom_before > hogs_killed)
		breach(r, "%lld OOM kills, %lld of them hogs", oom_kills() - oom_before, hogs_killed);
	close(cards[0]);
	remove_driver(r, "vgem");
}

/* ---- kill: at random moments, in the middle of large allocations ---- */

static void kill_child(struct racer *r)
{
	int ion = must_open(r, "/dev/ion");
	int cma_mem = must_open(r, "/dev/cma_mem");
	static const uint32_t heaps[] = { ION_SYSTEM_HEAP, ION_DMA_HEAP, 0, ION_CARVEOUT };

	__atomic_store_n(&r->ready, 1, __ATOMIC_RELEASE);
	for (;;) {
		uint32_t kind = below(r, 4);
		size_t pages = (1 + below(r, kind ? 8 : 24)) * MEBI / page_size;
		struct cmamem_info info = { .len = pages * page_size };
		int fd = -1;

		__atomic_store_n(&r->inside, 1, __ATOMIC_RELEASE);
		if (kind == 2)
			TRY(r, "allocate", ioctl(cma_mem, CMEM_ALLOCATE, &info), ERRNOS(ENOMEM));
		else
			fd = ion_alloc(r, ion, pages, heaps[kind], ERRNOS(ENOMEM));
		__atomic_store_n(&r->inside, 0, __ATOMIC_RELEASE);
		if (fd >= 0) {
			char *address = map(r, fd, pages);

			close(fd);
			check_zero(r, address, 16);
			set_marks(address, pages, kind);
			unmap(r, address, pages);
		}
		if (kind == 2) {
			close(cma_mem);
			cma_mem = must_open(r, "/dev/cma_mem");
		}
	}
}

static void kill_set_up(struct racer *r)
{
	use_heaps(r, "heaps=0:system:system,2:carveout:carveout:16M,4:dma:dma");
}

static void kill_racer(struct racer *r)
{
	struct timespec pause = { .tv_nsec = 1000L * below(r, 300000) };
	pid_t pid;

	r->ready = 0;
	r->inside = 0;
	pid = new_child(r);
	if (pid == 0)
		kill_child(r);
	while (!__atomic_load_n(&r->ready, __ATOMIC_ACQUIRE))
		if (waitpid(pid, NULL, WNOHANG))
			breach(r, "a child ended early");
	nanosleep(&pause, NULL);
	kill(pid, SIGKILL);
	if (end_of(r, pid) != -SIGKILL)
		breach(r, "a child ended by itself");
	count(r, r->inside ? "killed in an allocation" : "killed elsewhere", 0);
}

/* ---- exec: other threads allocate while one becomes another program ---- */

static void *exec_thread(void *argument)
{
	struct racer *r = argument;
	int ion = must_open(r, "/dev/ion");
	int cma_mem = must_open(r, "/dev/cma_mem");

	for (;;) {
		size_t pages = 1 + below(r, 8);
		bool from_ion = below(r, 4);
		int fd;
		char *address;

		r->inside = 1;
		fd = from_ion ? ion_alloc(r, ion, pages, ION_SYSTEM_HEAP, NONE) :
				cmem_alloc(r, cma_mem, pages, NONE);
		r->inside = 0;
		address = map(r, fd, pages);

		check_zero(r, address, pages);
		set_marks(address, pages, r->id);
		if (below(r, 4))
			unmap(r, address, pages);
		close(fd);
	}
	return NULL;
}

#define EXEC_THREADS	3
#define EXEC_RACE	"--exec-race"
#define EXEC_CHECK	"--exec-check"
#define EXEC_AMID	4	/* its exit code if there were allocations to break off */

/* races --exec-race: what exec_racer starts, a process of several threads. */
static int exec_race(void)
{
	static struct racer all[EXEC_THREADS];
	struct racer me = { .random = seed };
	pthread_t thread;

	for (unsigned int i = 0; i < EXEC_THREADS; i++) {
		all[i] = (struct racer){ .id = i, .random = mix(seed + i) };
		if (pthread_create(&thread, NULL, exec_thread, &all[i]))
			return 1;
	}
	doze(&me, 30000);
	execl("/proc/self/exe", "races", EXEC_CHECK,
	      all[0].inside || all[1].inside || all[2].inside ? "1" : "0", (char *)NULL);
	return 1;
}

/* races --exec-check: what that becomes. */
static int exec_check(bool amid)
{
	long fds = open_fds(true);
	long maps = mapped_buffers();

	if (fds == 0 && maps == 0)
		return amid ? EXEC_AMID : 0;
	fprintf(stderr, "races: %ld descriptors and %ld mappings outlived execve\n", fds, maps);
	return 1;
}

static void exec_racer(struct racer *r)
{
	char number[16];
	pid_t pid;
	int end;

	snprintf(number, sizeof(number), "%u", below(r, UINT32_MAX));
	pid = new_child(r);
	if (pid == 0) {
		execl("/proc/self/exe", "races", EXEC_RACE, number, (char *)NULL);
		_exit(1);
	}
	end = end_of(r, pid);
	if (end != 0 && end != EXEC_AMID)
		breach(r, "a child ended with %d", end);
	count(r, end ? "exec amid allocations" : "exec", 0);
}

/* ---- unshare: tables of descriptors that part while they change ---- */

static uint32_t unshared_stamp;

static void unshare_before(struct racer *r)
{
	int device;
	int fd;
	char *address;

	open_as(r, "/dev/ion", SLOT2);
	device = must_open(r, "/dev/ion");
	fd = ion_alloc(r, device, 2, ION_SYSTEM_HEAP, NONE);
	close(device);
	address = map(r, fd, 2);
	unshared_stamp = below(r, UINT32_MAX);
	set_marks(address, 2, unshared_stamp);
	unmap(r, address, 2);
	TRY(r, "dup3", dup3(fd, SLOT, O_CLOEXEC), NONE);
	close(fd);
}

/* Its table dies with it, and in it what it leaves open. */
static void *unshare_thread(void *argument)
{
	struct racer *r = argument;
	const int *gone = ERRNOS(EBADF);
	char *address;
	bool was_there;
	int fd;

	TRY(r, "unshare", unshare(CLONE_FILES), NONE);
	address = (char *)TRY(r, "map the copy", mmap(NULL, 2 * page_size, PROT_READ, MAP_SHARED, SLOT,
						      0), gone);
	was_there = address != MAP_FAILED;
	if (was_there) {
		check_marks(r, address, 0, 2, unshared_stamp);
		unmap(r, address, 2);
	}
	fd = ion_alloc(r, SLOT2, 1 + below(r, 8), ION_SYSTEM_HEAP, gone);
	if (fd >= 0 && below(r, 2))
		close(fd);
	jitter(r, 5000);
	/* Nobody else can close what is in a table of its own. */
	if ((close(SLOT) == 0) != was_there)
		breach(r, "another's table closed a descriptor of this one");
	if (close(SLOT) == 0)
		breach(r, "a closed descriptor was open");
	return NULL;
}

static void unshare_racer(struct racer *r)
{
	pthread_t thread;

	for (int i = 0; i < 3; i++) {
		if (pthread_create(&thread, NULL, unshare_thread, r))
			breach(r, "no thread");
		pthread_join(thread, NULL);
	}
}

static void unshare_client(struct racer *r)
{
	int fd;

	for (int i = 0; i < 8; i++) {
		fd = ion_alloc(r, SLOT2, 1 + below(r, 8), ION_SYSTEM_HEAP, ERRNOS(EBADF));
		if (fd >= 0)
			TRY(r, "close", close(fd), NONE);
	}
}

static void unshare_close(struct racer *r)
{
	doze(r, usual_us / 2);
	TRY(r, "close the buffer", close(SLOT), NONE);
	doze(r, usual_us / 2);
	TRY(r, "close the device", close(SLOT2), NONE);
}

static const struct scenario scenarios[] = {
	{
		.name = "ion",
		.title = "threads that allocate from one /dev/ion, and one that closes it",
		.rounds = 8,
		.before = ion_before,
		.racers = { ion_client, ion_client, ion_client, ion_client, ion_sampler, close_slot },
		.after = ion_after,
	}, {
		.name = "limit",
		.title = "threads that share the limit of one /dev/ion, and one that closes it",
		.rounds = 12,
		.set_up = limit_set_up,
		.before = limit_before,
		.racers = { limit_client, limit_client, limit_client, limit_client, close_slot },
		.after = limit_after,
		.tear_down = default_heaps,
	}, {
		.name = "kept",
		.title = "threads whose buffers get what others of one /dev/ion gave up, and those that want it back",
		.rounds = 12,
		.set_up = kept_set_up,
		.before = kept_before,
		.racers = { kept_client, kept_client, kept_client, kept_drain, kept_large, close_slot },
		.after = kept_after,
	}, {
		.name = "regions",
		.title = "regions of one /dev/cma_mem, exported and mapped while they come up",
		.rounds = 16,
		.before = regions_before,
		.racers = { allocate_regions, allocate_regions, fail_regions, export_guesses, map_guesses,
			    close_slot },
		.after = regions_after,
	}, {
		.name = "connect",
		.title = "files of /dev/cma_mem that connect to each other while regions come and go",
		.rounds = 16,
		.before = connect_before,
		.racers = { owner, owner, give_up_offered, connect_slots, connect_new, look_through, close_slot },
		.after = connect_after,
	}, {
		.name = "slot",
		.title = "calls on a descriptor that is closed and replaced",
		.rounds = 8,
		.before = slot_before,
		.racers = { slot_replace, slot_map, slot_dup, slot_sync, slot_name, slot_info, slot_close },
		.after = slot_after,
	}, {
		.name = "mappings",
		.title = "mappings taken apart, moved and inherited while their buffer is closed",
		.rounds = 18,
		.before = mappings_before,
		.racers = { mappings_unmap, mappings_move, mappings_close, mappings_fork, mappings_fork },
		.after = mappings_after,
	}, {
		.name = "attach",
		.title = "vgem, vkms and vivid on two dma-bufs of one buffer",
		.rounds = 12,
		.set_up = attach_set_up,
		.before = attach_before,
		.racers = { import_shared, import_shared, import_other_file, import_other_card,
			    attach_sync, capture, attach_close },
		.after = attach_after,
		.tear_down = attach_tear_down,
	}, {
		.name = "lists",
		.title = "lists of buffers and heaps that are read while these come and go",
		.rounds = 12,
		.set_up = lists_set_up,
		.before = lists_before,
		.racers = { list_client, list_client, list_client, list_buffers, list_heaps, list_figures },
		.tear_down = lists_tear_down,
	}, {
		.name = "carveouts",
		.title = "buffers from two carveouts, no page of which is two buffers'",
		.rounds = 6,
		.set_up = carveouts_set_up,
		.before = carveouts_before,
		.racers = { carveout_client, carveout_client, carveout_client, carveout_client,
			    carveout_sampler },
		.after = carveouts_after,
		.tear_down = default_heaps,
	}, {
		.name = "handles",
		.title = "handles given up while others share them, and their client closed",
		.rounds = 12,
		.set_up = handles_set_up,
		.before = handles_before,
		.racers = { handle_owner, handle_owner, handle_sharer, handle_sharer, handle_thief,
			    handle_sampler, close_slot },
		.after = handles_after,
		.tear_down = default_heaps,
	}, {
		.name = "caches",
		.title = "a buffer whose caches all clean, while a driver maps it now and then",
		.rounds = 6,
		.set_up = caches_set_up,
		.before = caches_before,
		.racers = { cleaner, cleaner, cleaner, cleaner, sometimes_mapped },
		.after = caches_after,
		.tear_down = caches_tear_down,
	}, {
		.name = "unload",
		.title = "modules that are unloaded and loaded while others use them",
		.rounds = 3,
		.set_up = unload_set_up,
		.before = unload_before,
		.racers = { unload_two, unload_all, unload_user, unload_user, unload_sampler,
			    unload_reader },
		.after = unload_after,
		.tear_down = unload_tear_down,
	}, {
		.name = "pressure",
		.title = "buffers while memory runs short",
		.rounds = 8,
		.set_up = pressure_set_up,
		.before = pressure_before,
		.racers = { pressure_ion, pressure_ion, pressure_cma_mem, pressure_attach,
			    pressure_drain },
		.tear_down = pressure_tear_down,
	}, {
		.name = "kill",
		.title = "processes killed in the middle of large allocations",
		.rounds = 8,
		.set_up = kill_set_up,
		.tear_down = default_heaps,
		.racers = { kill_racer, kill_racer, kill_racer, kill_racer },
	}, {
		.name = "exec",
		.title = "threads that allocate while one of them becomes another program",
		.rounds = 4,
		.racers = { exec_racer, exec_racer, exec_racer, exec_racer },
	}, {
		.name = "unshare",
		.title = "tables of descriptors that part while they change",
		.rounds = 20,
		.before = unshare_before,
		.racers = { unshare_racer, unshare_racer, unshare_client, unshare_close },
	},
};

/* ---- running them ---- */

/* In turn: each has a processor, all have all, all share two. */
static void choose_processors(const struct racer *r, unsigned int round)
{
	/* Not in step with what scenarios do every third round. */
	uint32_t how = (seed + round + round / 3) % 3;
	cpu_set_t set;

	CPU_ZERO(&set);
	for (unsigned int i = 0; i < processors; i++)
		if (how == 0 ? i == r->id % processors : how == 1 || i < 2)
			CPU_SET(i, &set);
	sched_setaffinity(0, sizeof(set), &set);
}

static void new_round(struct racer *r)
{
	r->random = mix(mix(seed) + mix(round_now + 1) * 64 + r->id);
}

static void *run_racer(void *argument)
{
	struct racer *r = argument;

	for (unsigned int round = 0;; round++) {
		r->at = "waiting for the others";
		pthread_barrier_wait(&line);
		if (over)
			return NULL;
		choose_processors(r, round);
		new_round(r);
		/* Leaving a barrier takes one after the other; this does not. */
		lined_up++;
		while (lined_up < racer_count * (round + 1))
			sched_yield();
		jitter(r, 5000);
		scenario->racers[r->id](r);
		r->at = "all";
		pthread_barrier_wait(&finish);
	}
}

static void report_hang(void)
{
	fprintf(stderr, "races: %s, round %u, --seed %u: nothing goes on\n", scenario->name, round_now,
		seed);
	for (unsigned int i = 0; i < racer_count; i++)
		fprintf(stderr, "  racer %u is at: %s\n", i, racers[i].at ? racers[i].at : "nothing");
	fprintf(stderr, "  the referee is at: %s\n", referee->at);
	/*
	 * The kernel's console has it even if this process cannot end, since
	 * one of its threads waits for ever; and where those are that wait.
	 */
	write_text("/dev/kmsg", "BUG: races: nothing goes on\n");
	write_text("/proc/sysrq-trigger", "w");
	sleep(2);
	_exit(3);
}

static void *watch(void *argument)
{
	unsigned int seen = progress;
	unsigned int still_s = 0;

	(void)argument;
	while (still_s < HANG_S) {
		sleep(1);
		still_s = progress == seen ? still_s + 1 : 0;
		seen = progress;
	}
	report_hang();
	return NULL;
}

static void on_fault(int number, siginfo_t *info, void *context)
{
	(void)context;
	dprintf(2, "races: %s, round %u, --seed %u: signal %d at address %p\n",
		scenario ? scenario->name : "", round_now, seed, number, info->si_addr);
	_exit(1);
}

static int by_name(const void *a, const void *b)
{
	const struct outcome *left = a;
	const struct outcome *right = b;
	int order = strcmp(left->what, right->what);

	return order ? order : left->error - right->error;
}

static void print_result(unsigned int rounds, long ms)
{
	static struct racer sum;

	sum.count = 0;
	for (struct racer *r = racers; r <= referee; r++) {
		for (unsigned int i = 0; i < r->count; i++) {
			const struct outcome *outcome = &r->outcomes[i];
			struct outcome *total;

			count(&sum, outcome->what, outcome->error);
			for (total = sum.outcomes; by_name(total, outcome); total++)
				;
			total->times += outcome->times - 1;
		}
	}
	qsort(sum.outcomes, sum.count, sizeof(sum.outcomes[0]), by_name);
	printf("{\"scenario\":\"%s\",\"seed\":%u,\"rounds\":%u,\"seconds\":%ld.%03ld,\"outcomes\":{",
	       scenario->name, seed, rounds, ms / 1000, ms % 1000);
	for (unsigned int i = 0; i < sum.count; i++)
		printf("%s\"%s %s\":%lu", i ? "," : "", sum.outcomes[i].what,
		       name_of(sum.outcomes[i].error), sum.outcomes[i].times);
	printf("}}\n");
	fflush(stdout);
}

static void play(unsigned int rounds)
{
	struct state at_first = state_now();
	pthread_t threads[MAX_RACERS];
	long begin = ms_now();
	long began;

	memset(racers, 0, (MAX_RACERS + 1) * sizeof(*racers));
	for (racer_count = 0; racer_count < MAX_RACERS && scenario->racers[racer_count]; racer_count++)
		racers[racer_count].id = racer_count;
	referee->id = MAX_RACERS;
	referee->at = "nothing";
	round_now = 0;
	lined_up = 0;
	over = false;
	closing = false;
	usual_us = 100000;
	new_round(referee);
	if (scenario->set_up)
		scenario->set_up(referee);
	progress++;

	pthread_barrier_init(&line, NULL, racer_count + 1);
	pthread_barrier_init(&finish, NULL, racer_count + 1);
	for (unsigned int i = 0; i < racer_count; i++)
		if (pthread_create(&threads[i], NULL, run_racer, &racers[i]))
			missing("a thread");
	idle = state_now();
	for (round_now = 0; round_now < rounds; round_now++) {
		new_round(referee);
		if (scenario->before)
			scenario->before(referee);
		began = ms_now();
		pthread_barrier_wait(&line);
		pthread_barrier_wait(&finish);
		if (!closing)
			usual_us = 1000 * (ms_now() - began < 900 ? ms_now() - began : 900);
		if (scenario->after)
			scenario->after(referee);
		referee->at = "a round";
		settles_to(referee, &idle);
		progress++;
	}
	over = true;
	pthread_barrier_wait(&line);
	for (unsigned int i = 0; i < racer_count; i++)
		pthread_join(threads[i], NULL);
	pthread_barrier_destroy(&line);
	pthread_barrier_destroy(&finish);
	if (scenario->tear_down)
		scenario->tear_down(referee);
	settles_to(referee, &at_first);
	progress++;
	print_result(rounds, ms_now() - begin);
}

static void usage(void)
{
	fprintf(stderr, "usage: races [--rounds N] [--seed N] SCENARIO...\n       races --list\n");
	exit(2);
}

static unsigned int number(const char *text)
{
	char *end;
	unsigned long value;

	if (!text)
		usage();
	value = strtoul(text, &end, 10);
	if (*end || end == text || value > UINT32_MAX)
		usage();
	return value;
}

static const struct scenario *find_scenario(const char *name)
{
	for (size_t i = 0; i < ARRAY_SIZE(scenarios); i++)
		if (!strcmp(scenarios[i].name, name))
			return &scenarios[i];
	fprintf(stderr, "races: there is no scenario %s\n", name);
	exit(2);
}

int main(int argc, char **argv)
{
	struct sigaction action = { .sa_sigaction = on_fault, .sa_flags = SA_SIGINFO };
	unsigned int rounds = 0;
	pthread_t watchdog;
	int first = 1;

	page_size = sysconf(_SC_PAGESIZE);
	processors = sysconf(_SC_NPROCESSORS_ONLN);
	scenario = &scenarios[0];
	if (argc == 3 && !strcmp(argv[1], EXEC_RACE)) {
		seed = number(argv[2]);
		scenario = find_scenario("exec");
		return exec_race();
	}
	if (argc == 3 && !strcmp(argv[1], EXEC_CHECK))
		return exec_check(number(argv[2]));
	if (argc == 2 && !strcmp(argv[1], "--list")) {
		for (size_t i = 0; i < ARRAY_SIZE(scenarios); i++)
			printf("%s %u %s\n", scenarios[i].name, scenarios[i].rounds, scenarios[i].title);
		return 0;
	}
	for (; first < argc && argv[first][0] == '-'; first += 2) {
		if (!strcmp(argv[first], "--rounds"))
			rounds = number(argv[first + 1]);
		else if (!strcmp(argv[first], "--seed"))
			seed = number(argv[first + 1]);
		else
			usage();
	}
	if (first >= argc)
		usage();
	for (int i = first; i < argc; i++)
		find_scenario(argv[i]);

	sigaction(SIGSEGV, &action, NULL);
	sigaction(SIGBUS, &action, NULL);
	racers = mmap(NULL, (MAX_RACERS + 1) * sizeof(*racers), PROT_READ | PROT_WRITE,
		      MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (racers == MAP_FAILED)
		missing("shared memory");
	referee = &racers[MAX_RACERS];
	if (pthread_create(&watchdog, NULL, watch, NULL))
		missing("a thread");
	for (int i = first; i < argc; i++) {
		scenario = find_scenario(argv[i]);
		play(rounds ? rounds : scenario->rounds);
	}
	return 0;
}
