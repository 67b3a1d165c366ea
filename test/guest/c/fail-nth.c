// SPDX-License-Identifier: MIT
/*
 * Makes system calls of the modules fail in every way they can: fail-nth
 * [--list] [--load-heaps] [OPERATION…]. An operation is one system call and how
 * it is made to fail:
 *
 * nth		its n-th allocation fails, for n = 1, 2, … until it has no n-th:
 *		of those from a cache of the kernel's, then of the others
 * no-id	there is no memory for the table of the ids of regions: two
 *		allocations in a row fail, which nth cannot do
 * read-only	its argument is in a page that it cannot write
 * unreadable	its argument is in a page that it cannot read
 * no-descriptor	RLIMIT_NOFILE is reached
 * refused	by what it is asked for
 *
 * Each failure must be told by an errno the operation may have, and leave the
 * counters of the modules, dma-bufs, descriptors and mappings as they were; a
 * success is undone. Prints a JSON line for each operation. Each step is a
 * process of its own, with a new table of descriptors.
 *
 * Operations on heaps need ion_lite with the heaps of HEAPS: --load-heaps loads
 * it anew.
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/dma-buf.h>
#include <linux/dma-heap.h>
#include <linux/videodev2.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/resource.h>
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

/* One piece of each size that scattered pages come in; few, as each page takes its time. */
#define SCATTERED	(1024 * 1024 + 64 * 1024 + 1)
#define CONTIGUOUS	(64 * 1024)
/* Several pieces, and far less than the bounce buffers a guest may have. */
#define IMPORTED	(192 * 1024 + 1)
/* So much that more than one page table is allocated for it. */
#define MAPPED		(2 * 1024 * 1024 + 1)
#define SYSTEM_HEAP		(1 << 0)
#define CONTIG_HEAP		(1 << 1)
#define CARVEOUT_HEAP		(1 << 2)
#define SECURED_HEAP_ID		3
#define SECURED_HEAP		(1 << SECURED_HEAP_ID)
#define DMA_HEAP		(1 << 4)
#define SECURED_DMA_HEAP	(1 << 5)
#define IOMMU_HEAP		(1 << 6)
#define DIRECT_HEAP		(1 << 7)
#define NO_HEAP			(1 << 31)

/*
 * The heaps everybody expects, and one of each other type. No pool: what a step
 * gets of it the next one would allocate, or the other way round.
 */
#define HEAPS								\
	"heaps=4:dma:ion_dma_heap,1:system_contig:ion_system_contig_heap,"	\
	"0:system:ion_system_heap,2:carveout:carveout:4M,3:protected:secured:256K," \
	"5:protected:secured_dma,6:iommu:iommu,7:system:direct "		\
	"legacy_abi=1 pool_max=0 direct_io=0x80"
/* Carveouts in two pieces of memory; each heap has many allocations in sysfs. */
#define TABLE								\
	"heaps=2:carveout:a:128K,3:protected:b:4K,0:system:c,4:carveout:d:64K"

/* An operation with more allocations than this would not end. */
#define MOST_STEPS	4000

/* The allocations of a call are not always as many. */
#define MARGIN		4

/* Where it is seen how far loading comes. In an instance loading would allocate more. */
#define TRACING	"/sys/kernel/tracing"

/* Far longer than any step takes, also on a busy machine. */
#define STEP_SECONDS	60

/* More nodes of trees than a call takes that allocates a page. */
#define MOST_NODES	16

/* What a frame of FRAME_WIDTH x FRAME_HEIGHT RGB24 takes, in whole pages of up to 64 KiB. */
#define FRAME_WIDTH	320
#define FRAME_HEIGHT	180
#define FRAME_BYTES	(256 * 1024)

enum kind { NTH, NO_ID, READ_ONLY, UNREADABLE, NO_DESCRIPTOR, REFUSED };

static const char *const kinds[] = {
	"nth", "no-id", "read-only", "unreadable", "no-descriptor", "refused"
};

/* A driver that imports dma-bufs, and how it is to be loaded. */
struct driver {
	const char *name;
	const char *parameters;
};

static const struct driver vgem = { "vgem", "" };
/* One camera and nothing else. It maps its buffers for the CPU. */
static const struct driver vivid = { "vivid", "n_devs=1 node_types=0x1 no_error_inj=1" };

/* What a failed call must not change. */
enum { DESCRIPTORS, MAPPINGS, DMA_BUFS, PLACES, FILES };

static const char *const files[] = {
	"/sys/class/misc/exporter/buffers",
	"/sys/class/misc/exporter/bytes",
	"/sys/class/misc/ion/buffers",
	"/sys/class/misc/ion/bytes",
	"/sys/class/misc/cma_mem/buffers",
	"/sys/class/misc/cma_mem/bytes",
	"/sys/module/dmabuf_core/refcnt",
	"/sys/module/exporter/refcnt",
	"/sys/module/ion_lite/refcnt",
	"/sys/module/cma_mem/refcnt",
};

/* What a module makes: there or not. */
static const char *const places[] = {
	"/dev/exporter", "/dev/ion", "/dev/cma_mem", "/dev/dma_heap/system", "/dev/dma_heap/reserved",
	"/sys/class/dma_heap", "/sys/class/misc/ion/heap0", "/sys/devices/dmabuf_core",
	"/sys/kernel/debug/exporter", "/sys/kernel/debug/ion", "/sys/kernel/debug/cma_mem",
	"/sys/kernel/tracing/events/dmabuf",
};

#define PLACE_COUNT	(sizeof(places) / sizeof(places[0]))

#define FILE_COUNT	(sizeof(files) / sizeof(files[0]))
#define STATE_COUNT	(FILES + FILE_COUNT)

/* -1: there is no such thing, for example because the module is not loaded. */
struct state {
	long value[STATE_COUNT];
};

/* What a step, a process, tells its parent. */
struct outcome {
	bool injected;		/* something was made to fail */
	int error;		/* of the call, 0: it succeeded */
	char complaint[512];	/* what is wrong, else empty */
};

static struct outcome *outcome;
static bool in_step;

static __attribute__((noreturn, format(printf, 1, 2))) void wrong(const char *format, ...)
{
	va_list arguments;

	va_start(arguments, format);
	vsnprintf(outcome->complaint, sizeof(outcome->complaint), format, arguments);
	va_end(arguments);
	if (in_step)
		_exit(1);
	fprintf(stderr, "%s\n", outcome->complaint);
	exit(2);
}

/* What has to succeed, since nothing is made to fail yet, or any more. */
static long need(const char *what, long result)
{
	if (result < 0)
		wrong("%s, where nothing is made to fail: %s", what, strerror(errno));
	return result;
}

/* Looking at the state. */

static ssize_t read_file(const char *path, char *text, size_t size)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	ssize_t got;

	if (fd < 0)
		return -1;
	got = read(fd, text, size - 1);
	close(fd);
	text[got < 0 ? 0 : got] = '\0';
	return got;
}

static long read_number(const char *path)
{
	char text[32];

	return read_file(path, text, sizeof(text)) <= 0 ? -1 : atol(text);
}

/*
 * Descriptors of what is looked at, open for good: opening takes most of the
 * time. 0: not yet.
 */
static int file_fds[FILE_COUNT];
static int info_fd;
static int maps_fd;

static int open_once(int *fd, const char *path)
{
	if (!*fd)
		*fd = open(path, O_RDONLY | O_CLOEXEC);
	if (*fd < 0)
		*fd = 0;
	return *fd;
}

/* What was open of a module that is gone says so, and may be there again. */
static long read_counter(unsigned int i)
{
	char text[32] = "";

	for (int tries = 0; tries < 2 && open_once(&file_fds[i], files[i]); tries++) {
		if (pread(file_fds[i], text, sizeof(text) - 1, 0) > 0)
			return atol(text);
		close(file_fds[i]);
		file_fds[i] = 0;
	}
	return -1;
}

/* New ones have the lowest numbers: none comes near to the last asked for. */
static long count_descriptors(void)
{
	long count = 0;

	for (int fd = 0; fd < 256; fd++)
		count += fcntl(fd, F_GETFD) >= 0;
	for (unsigned int i = 0; i < FILE_COUNT; i++)
		count -= file_fds[i] != 0;
	return count;
}

static long count_mappings(void)
{
	static char text[16384];
	off_t offset = 0;
	long count = 0;
	ssize_t got;

	while ((got = pread(maps_fd, text, sizeof(text), offset)) > 0) {
		for (ssize_t i = 0; i < got; i++)
			count += text[i] == '\n';
		offset += got;
	}
	return count;
}

/* All of the machine, also those that nobody has a descriptor of. */
static long count_dma_bufs(void)
{
	static char text[65536];
	ssize_t got = pread(info_fd, text, sizeof(text) - 1, 0);
	long count, bytes;
	char *last;

	text[got < 0 ? 0 : got] = '\0';
	/* Each of them has a "Total" of its own, of devices. */
	last = got > 0 ? memrchr(text, '\n', got - 1) : NULL;
	if (!last || sscanf(last, " Total %ld objects, %ld bytes", &count, &bytes) != 2)
		wrong("bufinfo: no number of dma-bufs at the end of %zd bytes", got);
	return count;
}

/* Takes its time, and no call changes it but those that load and unload. */
static bool modules_come_and_go;

static long find_places(void)
{
	static char text[8192];
	long found = 0;

	if (!modules_come_and_go)
		return 0;
	for (unsigned int i = 0; i < PLACE_COUNT; i++)
		found |= (access(places[i], F_OK) == 0) << i;
	if (read_file("/proc/devices", text, sizeof(text)) > 0 && strstr(text, " dma_heap\n"))
		found |= 1 << PLACE_COUNT;
	return found;
}

static void look(struct state *state)
{
	for (unsigned int i = 0; i < FILE_COUNT; i++)
		state->value[FILES + i] = read_counter(i);
	state->value[DMA_BUFS] = count_dma_bufs();
	state->value[MAPPINGS] = count_mappings();
	state->value[PLACES] = find_places();
	state->value[DESCRIPTORS] = count_descriptors();
}

/* The mappings looked at are those of the process that opens this. */
static void begin_to_look(void)
{
	maps_fd = need("/proc/self/maps", open("/proc/self/maps", O_RDONLY | O_CLOEXEC));
	if (!info_fd)
		info_fd = need("/sys/kernel/debug/dma_buf/bufinfo",
			       open("/sys/kernel/debug/dma_buf/bufinfo", O_RDONLY | O_CLOEXEC));
}

static const char *state_name(unsigned int i)
{
	static const char *const names[] = { "descriptors", "mappings", "dma-bufs", "places" };

	return i < FILES ? names[i] : files[i - FILES];
}

/* Some things the kernel frees a little later: a difference must last. */
static bool differs(const struct state *before, char *text, size_t size)
{
	struct state after;
	unsigned int i;

	for (int tries = 0; tries < 200; tries++) {
		look(&after);
		for (i = 0; i < STATE_COUNT && before->value[i] == after.value[i]; i++)
			;
		if (i == STATE_COUNT)
			return false;
		usleep(10000);
	}
	snprintf(text, size, "%s: %ld, before %ld", state_name(i), after.value[i],
		 before->value[i]);
	return true;
}

/*
 * Pages allocated by our modules, as page_owner knows them, without what the
 * kernel keeps of its own: slabs, page tables of the kernel, stacks it saved.
 */
static long pages;
/* The operation they were counted after. */
static const char *counted_after = "nothing";
/* There is no operation to come. */
static bool is_last;

#define STACKS	"/sys/kernel/debug/page_owner_stacks/show_stacks"

static long count_pages(void)
{
	static const char *const own[] = {
		"_slab", "kmalloc", "vmap", "pte_alloc", "stack_depot", "misc_register"
	};
	FILE *stacks = fopen(STACKS, "re");
	bool ours = false, others = false;
	long sum = 0, count;
	char line[512];

	if (!stacks)
		wrong(STACKS ": %s: a kernel with page_owner=on, such as --kernel debug",
		      strerror(errno));
	while (fgets(line, sizeof(line), stacks)) {
		ours |= strstr(line, "[dmabuf_core]") != NULL;
		for (unsigned int i = 0; i < sizeof(own) / sizeof(own[0]); i++)
			others |= strstr(line, own[i]) != NULL;
		if (sscanf(line, "nr_base_pages: %ld", &count) != 1)
			continue;
		if (ours && !others)
			sum += count;
		ours = others = false;
	}
	fclose(stacks);
	return sum;
}

/* Modules. */

static const char *const modules[] = { "dmabuf_core", "exporter", "ion_lite", "cma_mem" };

#define MODULE_COUNT	(sizeof(modules) / sizeof(modules[0]))

static bool is_loaded(const char *module)
{
	char path[64];

	snprintf(path, sizeof(path), "/sys/module/%s", module);
	return access(path, F_OK) == 0;
}

static int open_module(const char *module)
{
	struct utsname system;
	char path[256];

	uname(&system);
	snprintf(path, sizeof(path), "/lib/modules/%s/extra/%s.ko", system.release, module);
	return need(path, open(path, O_RDONLY | O_CLOEXEC));
}

/* What is read from a disk now is not read, and allocated for, in the call. */
static void fetch_module(const char *module)
{
	static char text[65536];
	int fd = open_module(module);

	while (read(fd, text, sizeof(text)) > 0)
		;
	close(fd);
}

static int load_module(int fd, const char *parameters)
{
	return syscall(SYS_finit_module, fd, parameters, 0);
}

static int unload_module(const char *module)
{
	return syscall(SYS_delete_module, module, O_NONBLOCK);
}

static void set(const char *path, const char *text)
{
	int fd = need(path, open(path, O_WRONLY | O_CLOEXEC));

	need(path, write(fd, text, strlen(text)));
	close(fd);
}

static void need_loaded(const char *module, bool loaded)
{
	bool is_core = !strcmp(module, "dmabuf_core");
	int fd;

	if (is_loaded(module) == loaded)
		return;
	if (!loaded) {
		need(module, unload_module(module));
		return;
	}
	fd = open_module(module);
	need(module, load_module(fd, strcmp(module, "ion_lite") ? "" : HEAPS));
	close(fd);
	/* What is done with buffers is traced, until the module goes. */
	if (is_core)
		set("/sys/kernel/tracing/events/dmabuf/enable", "1");
}

/* Operations. */

struct operation {
	const char *name;
	enum kind kind;
	/* It allocates, so that nth must have made it fail. */
	bool allocates;
	/*
	 * The first allocation to fail, 0: the very first. NO_ID: its nodes, 0:
	 * MOST_NODES.
	 */
	unsigned int first;
	const struct driver *driver;
	void (*prepare)(const struct operation *operation);
	int (*call)(const struct operation *operation);
	void (*undo)(const struct operation *operation);

	/* What is opened, or the module. */
	const char *path;
	int flags;
	/* The ioctl; where in its argument the descriptor comes, -1: none does. */
	unsigned long request;
	const void *argument;
	size_t size;
	int fd_at;
	/* What is mapped, imported or asked, or where it comes from; NULL: a dma-buf of ion. */
	int (*make)(const struct operation *operation);
	__u32 heaps;
	__u32 heap_flags;
	size_t length;
	const char *parameters;
	/* What is read has this in it. */
	const char *expected;
	/* Besides ENOMEM, or instead of it where something else than memory lacks. */
	int errors[2];
};

/* What a step works with; -1 and NULL: does not have. */
static int target = -1;
static int source = -1;
static int answer = -1;
static void *mapping;
/* Where the mapping is moved to. */
static void *place;
/* A page. */
static unsigned char *argument;
/* Nobody may write this one. */
static unsigned char *read_only;

static void prepare_device(const struct operation *operation)
{
	target = need(operation->path, open(operation->path, operation->flags | O_CLOEXEC));
	if (operation->argument)
		memcpy(argument, operation->argument, operation->size);
}

static void custom(__u32 cmd)
{
	struct ion_legacy_custom data = { .cmd = cmd, .arg = SECURED_HEAP_ID };

	need("ION_LEGACY_IOC_CUSTOM", ioctl(target, ION_LEGACY_IOC_CUSTOM, &data));
}

static void prepare_unsecured(const struct operation *operation)
{
	prepare_device(operation);
	custom(ION_LEGACY_UNSECURE_HEAP);
}

static void prepare_query(const struct operation *operation)
{
	struct ion_heap_query *query = (struct ion_heap_query *)argument;

	prepare_device(operation);
	query->cnt = 2;
	query->heaps = (uintptr_t)(operation->kind == REFUSED ? read_only : argument + 2048);
}

static void prepare_named(const struct operation *operation)
{
	struct cmamem_info *info = (struct cmamem_info *)argument;

	prepare_device(operation);
	info->name = memcpy(argument + 2048, "fail-nth", sizeof("fail-nth"));
}

static void prepare_bad_name(const struct operation *operation)
{
	prepare_device(operation);
	((struct cmamem_info *)argument)->name = (char *)16;
}

static int ion_buffer(const struct operation *operation)
{
	struct ion_allocation_data data = {
		.len = operation->length,
		.heap_id_mask = operation->heaps,
		.flags = operation->heap_flags,
	};
	int ion = need("/dev/ion", open("/dev/ion", O_RDWR | O_CLOEXEC));

	need("ION_IOC_ALLOC", ioctl(ion, ION_IOC_ALLOC, &data));
	close(ion);
	return data.fd;
}

static int exporter_buffer(const struct operation *operation)
{
	int exporter = need("/dev/exporter", open("/dev/exporter", O_RDWR | O_CLOEXEC));
	int fd;

	(void)operation;
	need("EXPORTER_IOC_GET_FD", ioctl(exporter, EXPORTER_IOC_GET_FD, &fd));
	close(exporter);
	return fd;
}

static int cmem_buffer(const struct operation *operation)
{
	struct cmem_alloc data = { .len = operation->length };
	int cma_mem = need("/dev/cma_mem", open("/dev/cma_mem", O_RDWR | O_CLOEXEC));

	if (operation->heap_flags & ION_FLAG_CACHED)
		data.flags = CMEM_FLAG_CACHED;
	need("CMEM_IOC_ALLOC", ioctl(cma_mem, CMEM_IOC_ALLOC, &data));
	close(cma_mem);
	return data.fd;
}

static int heap_buffer(const struct operation *operation)
{
	struct dma_heap_allocation_data data = {
		.len = operation->length,
		.fd_flags = O_RDWR | O_CLOEXEC,
	};
	int heap = need("/dev/dma_heap/reserved",
			open("/dev/dma_heap/reserved", O_RDONLY | O_CLOEXEC));

	need("DMA_HEAP_IOCTL_ALLOC", ioctl(heap, DMA_HEAP_IOCTL_ALLOC, &data));
	close(heap);
	return data.fd;
}

/* /dev/cma_mem with a region; the argument becomes that of its CMEM_IOC_EXPORT. */
static int region_file(const struct operation *operation)
{
	struct cmem_export *export = (struct cmem_export *)argument;
	struct cmamem_info info = {
		.name = "region",
		.is_cache = operation->heap_flags & ION_FLAG_CACHED,
		.len = operation->length,
	};
	int cma_mem = need("/dev/cma_mem", open("/dev/cma_mem", O_RDWR | O_CLOEXEC));

	need("CMEM_ALLOCATE", ioctl(cma_mem, CMEM_ALLOCATE, &info));
	*export = (struct cmem_export){ .id = info.id, .fd_flags = O_CLOEXEC | O_RDWR };
	return cma_mem;
}

/* The same; the argument becomes that of a call about the region. */
static int told_file(const struct operation *operation)
{
	struct cmamem_info *info = (struct cmamem_info *)argument;
	int cma_mem = region_file(operation);

	*info = (struct cmamem_info){ .id = *(__u32 *)argument, .len = operation->length };
	return cma_mem;
}

/* The same, and somebody has mapped it. */
static int told_and_mapped(const struct operation *operation)
{
	int cma_mem = told_file(operation);

	need("mmap", mmap(NULL, operation->length, PROT_READ, MAP_SHARED, cma_mem, 0) == MAP_FAILED ? -1 : 0);
	return cma_mem;
}

/* A file to be connected to one with a region. */
static int file_to_connect(const struct operation *operation)
{
	source = told_file(operation);
	*(struct cmamem_info *)argument = (struct cmamem_info){ .id = source };
	return need("/dev/cma_mem", open("/dev/cma_mem", O_RDWR | O_CLOEXEC));
}

/* The same the other way round: the one with a region cannot be. */
static int file_with_region(const struct operation *operation)
{
	int cma_mem = file_to_connect(operation), with_region = source;

	source = cma_mem;
	((struct cmamem_info *)argument)->id = source;
	return with_region;
}

static void connect_to_source(void)
{
	struct cmamem_info info = { .id = source };

	need("CMEM_CONNECT", ioctl(target, CMEM_CONNECT, &info));
}

/* What is connected can neither allocate nor give up. */
static int connected_file(const struct operation *operation)
{
	target = file_to_connect(operation);
	connect_to_source();
	*(struct cmamem_info *)argument = (struct cmamem_info){ .id = 1, .len = operation->length };
	return target;
}

static int region_buffer(const struct operation *operation)
{
	struct cmem_export *export = (struct cmem_export *)argument;
	int cma_mem = region_file(operation);

	need("CMEM_IOC_EXPORT", ioctl(cma_mem, CMEM_IOC_EXPORT, export));
	close(cma_mem);
	return export->fd;
}

/* The same, and a dma-buf of it is there already. */
static int exported_file(const struct operation *operation)
{
	struct cmem_export *export = (struct cmem_export *)argument;
	int cma_mem = region_file(operation);

	need("CMEM_IOC_EXPORT", ioctl(cma_mem, CMEM_IOC_EXPORT, export));
	source = export->fd;
	return cma_mem;
}

/* A client with a handle; the argument begins with it, as that of every call about one does. */
static int client_file(const struct operation *operation)
{
	struct ion_legacy_alloc data = {
		.len = operation->length,
		.heap_id_mask = operation->heaps,
		.flags = operation->heap_flags,
	};
	int ion = need("/dev/ion", open("/dev/ion", O_RDWR | O_CLOEXEC));

	need("ION_LEGACY_IOC_ALLOC", ioctl(ion, ION_LEGACY_IOC_ALLOC, &data));
	*(__s32 *)argument = data.handle;
	return ion;
}

/* The same, and its buffer is mapped. */
static int client_with_mapping(const struct operation *operation)
{
	struct ion_legacy_flush *flush = (struct ion_legacy_flush *)argument;
	struct ion_legacy_fd shared;
	int ion = client_file(operation);

	shared.handle = flush->handle;
	need("ION_LEGACY_IOC_SHARE", ioctl(ion, ION_LEGACY_IOC_SHARE, &shared));
	flush->vaddr = mmap(NULL, operation->length, PROT_READ | PROT_WRITE, MAP_SHARED,
			    shared.fd, 0);
	if (flush->vaddr == MAP_FAILED)
		wrong("mmap: %s", strerror(errno));
	flush->length = operation->length;
	source = shared.fd;
	return ion;
}

/* A client without any, and a dma-buf to import. */
static int client_to_import(const struct operation *operation)
{
	struct ion_legacy_fd *import = (struct ion_legacy_fd *)argument;

	source = ion_buffer(operation);
	import->fd = source;
	return need("/dev/ion", open("/dev/ion", O_RDWR | O_CLOEXEC));
}

/* The same, and the call is to find the buffer by its dma-buf. */
static int client_with_fd(const struct operation *operation)
{
	struct ion_legacy_flush *flush = (struct ion_legacy_flush *)argument;
	int ion = client_with_mapping(operation);

	flush->handle = 0;
	flush->fd = source;
	return ion;
}

/* As client_to_import(), for the first form of IMPORT, which is a number alone. */
static int client_to_import_v0(const struct operation *operation)
{
	struct ion_legacy_fd *import = (struct ion_legacy_fd *)argument;
	int ion = client_to_import(operation);

	import->handle = source;
	import->fd = -1;
	return ion;
}

static int make(const struct operation *operation)
{
	return operation->make ? operation->make(operation) : ion_buffer(operation);
}

static void prepare_made(const struct operation *operation)
{
	target = make(operation);
	if (operation->argument)
		memcpy(argument, operation->argument, operation->size);
}

static void prepare_sync_file(const struct operation *operation)
{
	struct dma_buf_export_sync_file export = { .flags = DMA_BUF_SYNC_RW };

	prepare_made(operation);
	need("DMA_BUF_IOCTL_EXPORT_SYNC_FILE",
	     ioctl(target, DMA_BUF_IOCTL_EXPORT_SYNC_FILE, &export));
	source = export.fd;
	*(struct dma_buf_import_sync_file *)argument = (struct dma_buf_import_sync_file){
		.flags = DMA_BUF_SYNC_RW, .fd = source
	};
}

static void *map_at(const struct operation *operation, void *address, int flags)
{
	void *mapped = mmap(address, operation->length, PROT_READ | PROT_WRITE,
			    MAP_SHARED | flags, target, 0);

	need("mmap", mapped == MAP_FAILED ? -1 : 0);
	return mapped;
}

/* Nobody else takes the place it finds. */
static void prepare_mapping(const struct operation *operation)
{
	prepare_made(operation);
	mapping = map_at(operation, NULL, 0);
	place = map_at(operation, NULL, 0);
	need("munmap", munmap(place, operation->length));
}

/* Opens what a driver made, by what stands in sysfs: class/NAME*'s link or its file "name". */
static int open_of_driver(const char *class, const char *prefix, const char *wanted)
{
	char path[512], text[512];
	struct dirent *entry;
	DIR *directory;
	int fd = -1;

	snprintf(path, sizeof(path), "/sys/class/%s", class);
	directory = opendir(path);
	while (directory && fd < 0 && (entry = readdir(directory))) {
		if (strncmp(entry->d_name, prefix, strlen(prefix)) || strchr(entry->d_name, '-'))
			continue;
		snprintf(path, sizeof(path), "/sys/class/%s/%.200s/name", class, entry->d_name);
		if (read_file(path, text, sizeof(text)) < 0) {
			snprintf(path, sizeof(path), "/sys/class/%s/%.200s", class, entry->d_name);
			text[readlink(path, text, sizeof(text) - 1)] = '\0';
		}
		if (!strstr(text, wanted))
			continue;
		snprintf(path, sizeof(path), "/dev/%s%.200s", strcmp(class, "drm") ? "" : "dri/",
			 entry->d_name);
		fd = open(path, O_RDWR | O_CLOEXEC);
	}
	if (directory)
		closedir(directory);
	if (fd < 0)
		wrong("no %s: modprobe first what --list says", wanted);
	return fd;
}

static void prepare_vgem(const struct operation *operation)
{
	source = make(operation);
	target = open_of_driver("drm", "card", "/vgem/");
	*(struct drm_prime_handle *)argument = (struct drm_prime_handle){ .fd = source };
}

static void prepare_import(const struct operation *operation)
{
	prepare_vgem(operation);
	need("DRM_IOCTL_PRIME_FD_TO_HANDLE",
	     ioctl(target, DRM_IOCTL_PRIME_FD_TO_HANDLE, argument));
}

static void name_it(int fd)
{
	need("DMA_BUF_SET_NAME", ioctl(fd, DMA_BUF_SET_NAME_A, "fail nth"));
}

static void prepare_named_buffer(const struct operation *operation)
{
	source = make(operation);
	name_it(source);
}

static void prepare_named_import(const struct operation *operation)
{
	prepare_import(operation);
	name_it(source);
}

static void request_buffers(unsigned int count)
{
	struct v4l2_requestbuffers request = {
		.type = V4L2_BUF_TYPE_VIDEO_CAPTURE,
		.memory = V4L2_MEMORY_DMABUF,
		.count = count,
	};

	need("VIDIOC_REQBUFS", ioctl(target, VIDIOC_REQBUFS, &request));
}

static void prepare_camera(const struct operation *operation)
{
	struct v4l2_format format = { .type = V4L2_BUF_TYPE_VIDEO_CAPTURE };

	source = make(operation);
	target = open_of_driver("video4linux", "video", "vivid-000-vid-cap");
	format.fmt.pix.width = FRAME_WIDTH;
	format.fmt.pix.height = FRAME_HEIGHT;
	format.fmt.pix.pixelformat = V4L2_PIX_FMT_RGB24;
	format.fmt.pix.field = V4L2_FIELD_NONE;
	need("VIDIOC_S_FMT", ioctl(target, VIDIOC_S_FMT, &format));
	request_buffers(1);
	*(struct v4l2_buffer *)argument = (struct v4l2_buffer){
		.type = V4L2_BUF_TYPE_VIDEO_CAPTURE,
		.memory = V4L2_MEMORY_DMABUF,
		.m.fd = source,
	};
}

/* All others stand on dmabuf_core. */
static void prepare_load(const struct operation *operation)
{
	bool is_core = !strcmp(operation->path, modules[0]);

	for (unsigned int i = MODULE_COUNT; i-- > 0;)
		if (is_core || !strcmp(operation->path, modules[i]))
			need_loaded(modules[i], false);
	source = open_module(operation->path);
}

static void prepare_unload(const struct operation *operation)
{
	bool is_core = !strcmp(operation->path, modules[0]);

	for (unsigned int i = MODULE_COUNT; is_core && i-- > 1;)
		need_loaded(modules[i], false);
	need_loaded(operation->path, true);
}

static int call_open(const struct operation *operation)
{
	answer = open(operation->path, operation->flags | O_CLOEXEC);
	return answer < 0 ? -1 : 0;
}

static char text_read[16384];

/* From beginning to end, as cat does. */
static int call_read(const struct operation *operation)
{
	size_t size = 0;
	ssize_t got;
	int error;

	answer = open(operation->path, O_RDONLY | O_CLOEXEC);
	if (answer < 0)
		return -1;
	while ((got = read(answer, text_read + size, sizeof(text_read) - 1 - size)) > 0)
		size += got;
	error = errno;
	close(answer);
	errno = error;
	text_read[size] = '\0';
	return got;
}

static int call_ioctl(const struct operation *operation)
{
	return ioctl(target, operation->request, argument);
}

static int call_mmap(const struct operation *operation)
{
	mapping = mmap(NULL, operation->length, PROT_READ | PROT_WRITE, MAP_SHARED, target, 0);
	return mapping == MAP_FAILED ? -1 : 0;
}

/* The mapping is made whole: one that failed may have split it, too. */
static void undo_munmap(const struct operation *operation)
{
	map_at(operation, mapping, MAP_FIXED);
}

static int call_munmap(const struct operation *operation)
{
	size_t page = sysconf(_SC_PAGESIZE);
	int error;

	if (!munmap((char *)mapping + page, page))
		return 0;
	error = errno;
	undo_munmap(operation);
	errno = error;
	return -1;
}

static int move(const struct operation *operation, void *from, void *to)
{
	void *moved = mremap(from, operation->length, operation->length,
			     MREMAP_MAYMOVE | MREMAP_FIXED, to);

	return moved == MAP_FAILED ? -1 : 0;
}

static int call_mremap(const struct operation *operation)
{
	return move(operation, mapping, place);
}

static int call_fork(const struct operation *operation)
{
	(void)operation;
	answer = fork();
	if (!answer)
		_exit(0);
	return answer;
}

static int call_load(const struct operation *operation)
{
	return load_module(source, operation->parameters ?: "");
}

static int call_unload(const struct operation *operation)
{
	return unload_module(operation->path);
}

static void undo_open(const struct operation *operation)
{
	need(operation->path, close(answer));
}

static void undo_read(const struct operation *operation)
{
	if (!strstr(text_read, operation->expected))
		wrong("no %s in %s", operation->expected, text_read);
}

static void undo_ioctl(const struct operation *operation)
{
	int fd;

	if (operation->fd_at < 0)
		return;
	memcpy(&fd, argument + operation->fd_at, sizeof(fd));
	need("close what the ioctl gave", close(fd));
}

static void undo_mmap(const struct operation *operation)
{
	need("munmap", munmap(mapping, operation->length));
}

static void undo_mremap(const struct operation *operation)
{
	need("mremap", move(operation, place, mapping));
}

static void undo_fork(const struct operation *operation)
{
	(void)operation;
	need("waitpid", waitpid(answer, NULL, 0));
}

/* There is none: the region goes with its file. */
static void undo_by_opening(const struct operation *operation)
{
	close(target);
	target = need(operation->path, open(operation->path, operation->flags | O_CLOEXEC));
}

/* Another buffer in its place. */
static void undo_free(const struct operation *operation)
{
	struct ion_legacy_alloc data = {
		.len = operation->length,
		.heap_id_mask = operation->heaps,
		.flags = operation->heap_flags,
	};

	need("ION_LEGACY_IOC_ALLOC", ioctl(target, ION_LEGACY_IOC_ALLOC, &data));
}

/* Another region in its place; the next ones have other ids. */
static void undo_unmap(const struct operation *operation)
{
	struct cmamem_info *info = (struct cmamem_info *)argument;

	*info = (struct cmamem_info){ .len = operation->length };
	need("CMEM_ALLOCATE", ioctl(target, CMEM_ALLOCATE, info));
}

/* There is no way back but a new file. */
static void undo_connect(const struct operation *operation)
{
	(void)operation;
	close(target);
	target = need("/dev/cma_mem", open("/dev/cma_mem", O_RDWR | O_CLOEXEC));
}

static void undo_unsecure(const struct operation *operation)
{
	(void)operation;
	custom(ION_LEGACY_SECURE_HEAP);
}

static void undo_import(const struct operation *operation)
{
	struct drm_prime_handle *import = (struct drm_prime_handle *)argument;
	struct drm_gem_close done = { .handle = import->handle };

	(void)operation;
	need("DRM_IOCTL_GEM_CLOSE", ioctl(target, DRM_IOCTL_GEM_CLOSE, &done));
}

static void undo_queue(const struct operation *operation)
{
	(void)operation;
	request_buffers(0);
	request_buffers(1);
}

static void undo_load(const struct operation *operation)
{
	need_loaded(operation->path, false);
}

static void undo_unload(const struct operation *operation)
{
	need_loaded(operation->path, true);
}

static const int no_fd = -1;
static const struct ion_allocation_data ion_page = { .len = 1, .heap_id_mask = SYSTEM_HEAP };
static const struct ion_allocation_data ion_cached = {
	.len = 1, .heap_id_mask = SYSTEM_HEAP, .flags = ION_FLAG_CACHED
};
static const struct ion_allocation_data ion_large = {
	.len = SCATTERED, .heap_id_mask = SYSTEM_HEAP
};
static const struct ion_allocation_data ion_dma_page = { .len = 1, .heap_id_mask = DMA_HEAP };
static const struct ion_allocation_data ion_dma_large = {
	.len = CONTIGUOUS, .heap_id_mask = DMA_HEAP
};
static const struct ion_allocation_data ion_both = {
	.len = CONTIGUOUS, .heap_id_mask = DMA_HEAP | SYSTEM_HEAP, .flags = ION_FLAG_CACHED
};
static const struct ion_allocation_data ion_contig_page = { .len = 1, .heap_id_mask = CONTIG_HEAP };
static const struct ion_allocation_data ion_contig_large = {
	.len = CONTIGUOUS - 1, .heap_id_mask = CONTIG_HEAP, .flags = ION_FLAG_CACHED
};
static const struct ion_allocation_data ion_carveout_page = {
	.len = 1, .heap_id_mask = CARVEOUT_HEAP
};
static const struct ion_allocation_data ion_carveout_large = {
	.len = CONTIGUOUS, .heap_id_mask = CARVEOUT_HEAP, .flags = ION_FLAG_CACHED
};
static const struct ion_allocation_data ion_carveout_more = {
	.len = 4 * 1024 * 1024 + 1, .heap_id_mask = CARVEOUT_HEAP
};
static const struct ion_allocation_data ion_carveout_first = {
	.len = CONTIGUOUS, .heap_id_mask = CARVEOUT_HEAP | CONTIG_HEAP
};
static const struct ion_allocation_data ion_secured = {
	.len = CONTIGUOUS, .heap_id_mask = SECURED_HEAP
};
static const struct ion_allocation_data ion_secured_cached = {
	.len = 1, .heap_id_mask = SECURED_HEAP, .flags = ION_FLAG_CACHED
};
static const struct ion_allocation_data ion_secured_dma = {
	.len = CONTIGUOUS, .heap_id_mask = SECURED_DMA_HEAP
};
static const struct ion_allocation_data ion_iommu = { .len = 1, .heap_id_mask = IOMMU_HEAP };
static const struct ion_allocation_data ion_no_heap = { .len = 1, .heap_id_mask = NO_HEAP };
static const struct ion_allocation_data ion_huge = {
	.len = 1ull << 40, .heap_id_mask = SYSTEM_HEAP
};
static const struct ion_heap_query ion_query;
static const __u32 ion_version;
static const struct ion_legacy_alloc legacy_page = { .len = 1, .heap_id_mask = SYSTEM_HEAP };
static const struct ion_legacy_alloc legacy_aligned = {
	.len = 1, .align = 65536, .heap_id_mask = CARVEOUT_HEAP, .flags = ION_FLAG_CACHED
};
static const struct ion_legacy_alloc legacy_no_heap = { .len = 1, .heap_id_mask = NO_HEAP };
#if __SIZEOF_POINTER__ == 4
static const struct ion_legacy_alloc_v0 legacy_page_v0 = {
	.len = 1, .flags = CONTIG_HEAP | ION_FLAG_CACHED
};
#endif
static const struct ion_legacy_custom legacy_secure = {
	.cmd = ION_LEGACY_SECURE_HEAP, .arg = SECURED_HEAP_ID
};
static const struct ion_legacy_custom legacy_unsecure = {
	.cmd = ION_LEGACY_UNSECURE_HEAP, .arg = SECURED_HEAP_ID
};
static const __s32 legacy_no_handle = 1;
static const struct dma_heap_allocation_data heap_page = {
	.len = 1, .fd_flags = O_RDWR | O_CLOEXEC
};
static const struct dma_heap_allocation_data heap_large = {
	.len = CONTIGUOUS, .fd_flags = O_RDONLY
};
static const struct dma_heap_allocation_data heap_flags = {
	.len = 1, .fd_flags = O_RDWR | O_CLOEXEC, .heap_flags = 1
};
static const struct dma_heap_allocation_data heap_huge = { .len = 1ull << 40, .fd_flags = O_RDWR };
static const struct cmamem_info cmem_page = { .len = 1 };
static const struct cmamem_info cmem_large = { .len = CONTIGUOUS, .is_cache = 1 };
static const struct cmem_alloc cmem_alloc_page = { .len = 1 };
static const struct cmem_alloc cmem_alloc_large = { .len = CONTIGUOUS, .flags = CMEM_FLAG_CACHED };
static const struct dma_buf_sync sync_start = { .flags = DMA_BUF_SYNC_START | DMA_BUF_SYNC_RW };
static const struct dma_buf_sync sync_end = { .flags = DMA_BUF_SYNC_END | DMA_BUF_SYNC_RW };
static const struct dma_buf_export_sync_file sync_file = { .flags = DMA_BUF_SYNC_RW, .fd = -1 };

#define OPEN(device, mode)							\
	.allocates = true, .path = (device), .flags = (mode),			\
	.prepare = NULL, .call = call_open, .undo = undo_open

#define IOCTL_OF(device, number, template, fd_offset, preparation)		\
	.path = (device), .flags = O_RDWR, .request = (number),			\
	.argument = &(template), .size = sizeof(template), .fd_at = (fd_offset), \
	.prepare = (preparation), .call = call_ioctl, .undo = undo_ioctl

#define GET_FD(number)	IOCTL_OF("/dev/exporter", number, no_fd, 0, prepare_device)
#define ION_ALLOC(template)							\
	IOCTL_OF("/dev/ion", ION_IOC_ALLOC, template,				\
		 offsetof(struct ion_allocation_data, fd), prepare_device)
#define ION_QUERY(preparation)							\
	IOCTL_OF("/dev/ion", ION_IOC_HEAP_QUERY, ion_query, -1, preparation)
#define LEGACY_ALLOC_BY(number, template)					\
	.path = "/dev/ion", .flags = O_RDWR, .request = (number),		\
	.argument = &(template), .size = sizeof(template), .fd_at = -1,		\
	.prepare = prepare_device, .call = call_ioctl, .undo = undo_by_opening
#define LEGACY_ALLOC(template)	LEGACY_ALLOC_BY(ION_LEGACY_IOC_ALLOC, template)
#define LEGACY_IMPORT_BY(number, origin)					\
	.path = "/dev/ion", .flags = O_RDWR, .request = (number), .fd_at = -1,	\
	.heaps = SYSTEM_HEAP, .length = 1, .make = (origin),			\
	.prepare = prepare_made, .call = call_ioctl, .undo = undo_by_opening
#define LEGACY_IMPORT	LEGACY_IMPORT_BY(ION_LEGACY_IOC_IMPORT, client_to_import)
#define LEGACY_IMPORT_V0 LEGACY_IMPORT_BY(ION_LEGACY_IOC_IMPORT_V0, client_to_import_v0)
#define OF_HANDLE_UNDONE_BY(number, fd_offset, origin, reversal)		\
	.request = (number), .fd_at = (fd_offset), .heaps = SYSTEM_HEAP,	\
	.heap_flags = ION_FLAG_CACHED, .length = CONTIGUOUS, .make = (origin),	\
	.prepare = prepare_made, .call = call_ioctl, .undo = (reversal)
#define OF_HANDLE(number, fd_offset, origin)					\
	OF_HANDLE_UNDONE_BY(number, fd_offset, origin, undo_ioctl)
#define LEGACY_SHARE_BY(number)							\
	OF_HANDLE(number, offsetof(struct ion_legacy_fd, fd), client_file)
#define LEGACY_SHARE	LEGACY_SHARE_BY(ION_LEGACY_IOC_SHARE)
#define LEGACY_MAP	LEGACY_SHARE_BY(ION_LEGACY_IOC_MAP)
#define LEGACY_CUSTOM(template, preparation, reversal)				\
	.path = "/dev/ion", .flags = O_RDWR, .request = ION_LEGACY_IOC_CUSTOM,	\
	.argument = &(template), .size = sizeof(template), .fd_at = -1,		\
	.prepare = (preparation), .call = call_ioctl, .undo = (reversal)
#define CMEM_ALLOC(template)							\
	IOCTL_OF("/dev/cma_mem", CMEM_IOC_ALLOC, template,			\
		 offsetof(struct cmem_alloc, fd), prepare_device)
#define CMEM_REGION(template, preparation)					\
	.path = "/dev/cma_mem", .flags = O_RDWR, .request = CMEM_ALLOCATE,	\
	.argument = &(template), .size = sizeof(template), .fd_at = -1,		\
	.prepare = (preparation), .call = call_ioctl, .undo = undo_by_opening
#define CMEM_EXPORT(origin)							\
	.request = CMEM_IOC_EXPORT, .fd_at = offsetof(struct cmem_export, fd), .length = 1, \
	.make = (origin), .prepare = prepare_made, .call = call_ioctl, .undo = undo_ioctl
#define CMEM_TOLD_UNDONE_BY(number, origin, reversal)				\
	.request = (number), .fd_at = -1, .length = CONTIGUOUS,			\
	.heap_flags = ION_FLAG_CACHED, .make = (origin), .prepare = prepare_made, \
	.call = call_ioctl, .undo = (reversal)
#define CMEM_TOLD(number, origin)						\
	CMEM_TOLD_UNDONE_BY(number, origin, undo_ioctl)
#define HEAP_ALLOC(node, template)						\
	IOCTL_OF("/dev/dma_heap/" node, DMA_HEAP_IOCTL_ALLOC, template,		\
		 offsetof(struct dma_heap_allocation_data, fd), prepare_device)

/* While there is a buffer; with a page of 4 KiB. */
#define READ_WITH(preparation, file, text, bit)					\
	.allocates = true, .path = (file), .expected = (text), .heaps = (bit), .length = 1, \
	.prepare = (preparation), .call = call_read, .undo = undo_read
#define READ(file, text, bit)	READ_WITH(prepare_named_buffer, file, text, bit)

#define MMAP(bytes, preparation)						\
	.allocates = true, .length = (bytes),					\
	.prepare = (preparation), .call = call_mmap, .undo = undo_mmap

/* The kernel takes references for mappings here, and gives them back itself where it fails. */
#define OF_MAPPING(bytes, function, reversal)					\
	.allocates = true, .heaps = SYSTEM_HEAP, .length = (bytes),		\
	.prepare = prepare_mapping, .call = (function), .undo = (reversal)

#define OF_DMA_BUF(number, template, fd_offset)					\
	.heaps = SYSTEM_HEAP, .heap_flags = ION_FLAG_CACHED, .length = CONTIGUOUS,	\
	.request = (number), .argument = &(template), .size = sizeof(template),	\
	.fd_at = (fd_offset),							\
	.prepare = prepare_made, .call = call_ioctl, .undo = undo_ioctl

#define IMPORT									\
	.allocates = true, .driver = &vgem, .request = DRM_IOCTL_PRIME_FD_TO_HANDLE, \
	.prepare = prepare_vgem, .call = call_ioctl, .undo = undo_import

/*
 * Not the first allocation, which is that of vb2's attach_dmabuf: where this
 * fails, 6.12 (__prepare_dmabuf) does not put the dma-buf it got, which stays
 * for ever. So vivid with allocators=1, whose attach_dmabuf calls ours, cannot
 * be tried at all; vgem calls it too. Where the mapping fails dma_buf_vmap()
 * of 6.12 warns, once: a known report.
 */
#define QUEUE									\
	.allocates = true, .driver = &vivid, .length = FRAME_BYTES, .first = 2,	\
	.request = VIDIOC_QBUF, .errors = { EFAULT },				\
	.prepare = prepare_camera, .call = call_ioctl, .undo = undo_queue

#define LOAD(module)								\
	.path = (module), .prepare = prepare_load, .call = call_load, .undo = undo_load
#define UNLOAD(module)								\
	.path = (module), .prepare = prepare_unload, .call = call_unload, .undo = undo_unload

static const struct operation operations[] = {
	/*
	 * First, since gcov forgets what it counted of a module that goes while
	 * there is no memory to save it in.
	 */
	{ "unload dmabuf_core", UNLOAD("dmabuf_core") },
	{ "unload exporter", UNLOAD("exporter") },
	{ "unload ion_lite", UNLOAD("ion_lite") },
	{ "unload cma_mem", UNLOAD("cma_mem") },
	/* What the kernel's loader does where it lacks memory is not ours. */
	{ "load dmabuf_core", .allocates = true, LOAD("dmabuf_core") },
	{ "load exporter", .allocates = true, LOAD("exporter") },
	{ "load exporter with no page", REFUSED, LOAD("exporter"), .parameters = "size=0",
	  .errors = { EINVAL } },
	{ "load exporter with 1 TiB", REFUSED, LOAD("exporter"),
	  .parameters = "size=1099511627776", .errors = { ENOMEM } },
	{ "load ion_lite with carveouts", .allocates = true, LOAD("ion_lite"),
	  .parameters = TABLE },
	{ "load ion_lite with a table that is wrong at its end", REFUSED, LOAD("ion_lite"),
	  .parameters = TABLE ",8", .errors = { EINVAL } },
	{ "load ion_lite with more than there is", REFUSED, LOAD("ion_lite"),
	  .parameters = TABLE ",8:carveout:i:1G", .errors = { ENOMEM } },
	{ "load ion_lite with nodes neither auto nor off", REFUSED, LOAD("ion_lite"),
	  .parameters = TABLE " dma_heap_nodes=on", .errors = { EINVAL } },
	{ "load ion_lite with direct I/O into a carveout", REFUSED, LOAD("ion_lite"),
	  .parameters = TABLE " direct_io=4", .errors = { EINVAL } },
	{ "load cma_mem", .allocates = true, LOAD("cma_mem") },

	{ "exporter open to read", OPEN("/dev/exporter", O_RDONLY) },
	{ "exporter open to read and write", OPEN("/dev/exporter", O_RDWR) },
	{ "ion open", OPEN("/dev/ion", O_RDWR) },
	{ "cma_mem open", OPEN("/dev/cma_mem", O_RDWR) },
	{ "dma_heap/system open", OPEN("/dev/dma_heap/system", O_RDONLY) },
	{ "dma_heap/reserved open", OPEN("/dev/dma_heap/reserved", O_RDWR) },

	{ "EXPORTER_GET_FD", .allocates = true, GET_FD(EXPORTER_GET_FD) },
	{ "EXPORTER_GET_FD", READ_ONLY, GET_FD(EXPORTER_GET_FD) },
	{ "EXPORTER_GET_FD", NO_DESCRIPTOR, GET_FD(EXPORTER_GET_FD) },
	{ "EXPORTER_IOC_GET_FD", .allocates = true, GET_FD(EXPORTER_IOC_GET_FD) },
	{ "EXPORTER_IOC_GET_FD", READ_ONLY, GET_FD(EXPORTER_IOC_GET_FD) },
	{ "EXPORTER_IOC_GET_FD", NO_DESCRIPTOR, GET_FD(EXPORTER_IOC_GET_FD) },

	{ "ION_IOC_ALLOC a page", .allocates = true, ION_ALLOC(ion_page) },
	{ "ION_IOC_ALLOC a page", READ_ONLY, ION_ALLOC(ion_page) },
	{ "ION_IOC_ALLOC a page", UNREADABLE, ION_ALLOC(ion_page) },
	{ "ION_IOC_ALLOC a page", NO_DESCRIPTOR, ION_ALLOC(ion_page) },
	{ "ION_IOC_ALLOC a page, cached", .allocates = true, ION_ALLOC(ion_cached) },
	{ "ION_IOC_ALLOC pieces of all sizes", .allocates = true, ION_ALLOC(ion_large) },
	{ "ION_IOC_ALLOC pieces of all sizes", READ_ONLY, ION_ALLOC(ion_large) },
	{ "ION_IOC_ALLOC a page of the DMA heap", .allocates = true, ION_ALLOC(ion_dma_page) },
	{ "ION_IOC_ALLOC 64 KiB of the DMA heap", .allocates = true, ION_ALLOC(ion_dma_large) },
	{ "ION_IOC_ALLOC 64 KiB of the DMA heap", READ_ONLY, ION_ALLOC(ion_dma_large) },
	{ "ION_IOC_ALLOC 64 KiB of the DMA heap", NO_DESCRIPTOR, ION_ALLOC(ion_dma_large) },
	{ "ION_IOC_ALLOC 64 KiB of either heap, cached", .allocates = true, ION_ALLOC(ion_both) },
	{ "ION_IOC_ALLOC a page of the CONTIG heap", .allocates = true, ION_ALLOC(ion_contig_page) },
	{ "ION_IOC_ALLOC 64 KiB of the CONTIG heap, cached", .allocates = true,
	  ION_ALLOC(ion_contig_large) },
	{ "ION_IOC_ALLOC 64 KiB of the CONTIG heap, cached", READ_ONLY,
	  ION_ALLOC(ion_contig_large) },
	{ "ION_IOC_ALLOC a page of a carveout", .allocates = true, ION_ALLOC(ion_carveout_page) },
	{ "ION_IOC_ALLOC a page of a carveout", NO_DESCRIPTOR, ION_ALLOC(ion_carveout_page) },
	{ "ION_IOC_ALLOC 64 KiB of a carveout, cached", .allocates = true,
	  ION_ALLOC(ion_carveout_large) },
	{ "ION_IOC_ALLOC 64 KiB of a carveout, cached", READ_ONLY, ION_ALLOC(ion_carveout_large) },
	{ "ION_IOC_ALLOC more than a carveout", REFUSED, ION_ALLOC(ion_carveout_more),
	  .errors = { ENOMEM } },
	{ "ION_IOC_ALLOC 64 KiB of a carveout or the CONTIG heap", .allocates = true,
	  ION_ALLOC(ion_carveout_first) },
	{ "ION_IOC_ALLOC 64 KiB of a protected carveout", .allocates = true,
	  ION_ALLOC(ion_secured) },
	{ "ION_IOC_ALLOC 64 KiB of a protected carveout", NO_DESCRIPTOR, ION_ALLOC(ion_secured) },
	{ "ION_IOC_ALLOC a page of a protected carveout, cached", .allocates = true,
	  ION_ALLOC(ion_secured_cached) },
	{ "ION_IOC_ALLOC 64 KiB of a protected heap", .allocates = true,
	  ION_ALLOC(ion_secured_dma) },
	{ "ION_IOC_ALLOC a page of the IOMMU heap", .allocates = true, ION_ALLOC(ion_iommu) },
	{ "ION_IOC_ALLOC of no heap", REFUSED, ION_ALLOC(ion_no_heap), .errors = { ENODEV } },
	{ "ION_IOC_ALLOC 1 TiB", REFUSED, ION_ALLOC(ion_huge), .errors = { ENOMEM } },

	{ "ION_IOC_HEAP_QUERY count", ION_QUERY(prepare_device) },
	{ "ION_IOC_HEAP_QUERY count", READ_ONLY, ION_QUERY(prepare_device) },
	{ "ION_IOC_HEAP_QUERY count", UNREADABLE, ION_QUERY(prepare_device) },
	{ "ION_IOC_HEAP_QUERY heaps", ION_QUERY(prepare_query) },
	{ "ION_IOC_HEAP_QUERY heaps", READ_ONLY, ION_QUERY(prepare_query) },
	{ "ION_IOC_HEAP_QUERY into a page to read", REFUSED, ION_QUERY(prepare_query),
	  .errors = { EFAULT } },

	{ "ION_IOC_ABI_VERSION", IOCTL_OF("/dev/ion", ION_IOC_ABI_VERSION, ion_version, -1,
					  prepare_device) },
	{ "ION_IOC_ABI_VERSION", READ_ONLY,
	  IOCTL_OF("/dev/ion", ION_IOC_ABI_VERSION, ion_version, -1, prepare_device) },

	{ "a handle's ALLOC of a page", .allocates = true, LEGACY_ALLOC(legacy_page) },
	{ "a handle's ALLOC of a page", NO_ID, .allocates = true, LEGACY_ALLOC(legacy_page) },
	{ "a handle's ALLOC of a page", READ_ONLY, LEGACY_ALLOC(legacy_page) },
	{ "a handle's ALLOC of a page", UNREADABLE, LEGACY_ALLOC(legacy_page) },
	{ "a handle's ALLOC of an aligned piece of a carveout", .allocates = true,
	  LEGACY_ALLOC(legacy_aligned) },
	{ "a handle's ALLOC of no heap", REFUSED, LEGACY_ALLOC(legacy_no_heap), .errors = { ENODEV } },
	{ "a handle's SHARE", .allocates = true, LEGACY_SHARE },
	{ "a handle's SHARE", READ_ONLY, LEGACY_SHARE },
	{ "a handle's SHARE", UNREADABLE, LEGACY_SHARE },
	{ "a handle's SHARE", NO_DESCRIPTOR, LEGACY_SHARE },
	{ "a handle's MAP", .allocates = true, LEGACY_MAP },
	{ "a handle's MAP", READ_ONLY, LEGACY_MAP },
	{ "a handle's MAP", UNREADABLE, LEGACY_MAP },
	{ "a handle's MAP", NO_DESCRIPTOR, LEGACY_MAP },
	{ "a handle's IMPORT", .allocates = true, LEGACY_IMPORT },
	{ "a handle's IMPORT", NO_ID, .allocates = true, LEGACY_IMPORT },
	{ "a handle's IMPORT", READ_ONLY, LEGACY_IMPORT },
	{ "a handle's IMPORT", UNREADABLE, LEGACY_IMPORT },
	{ "a handle's IMPORT, first form", .allocates = true, LEGACY_IMPORT_V0 },
	{ "a handle's IMPORT, first form", NO_ID, .allocates = true, LEGACY_IMPORT_V0 },
	{ "a handle's IMPORT, first form", READ_ONLY, LEGACY_IMPORT_V0 },
	{ "a handle's IMPORT, first form", UNREADABLE, LEGACY_IMPORT_V0 },
	{ "a handle's FREE",
	  OF_HANDLE_UNDONE_BY(ION_LEGACY_IOC_FREE, -1, client_file, undo_free) },
	{ "a handle's FREE of a mapped buffer",
	  OF_HANDLE(ION_LEGACY_IOC_FREE, -1, client_with_mapping) },
	{ "a handle's FREE", UNREADABLE, OF_HANDLE(ION_LEGACY_IOC_FREE, -1, client_file) },
	{ "a handle's FREE of another", REFUSED,
	  IOCTL_OF("/dev/ion", ION_LEGACY_IOC_FREE, legacy_no_handle, -1, prepare_device),
	  .errors = { EINVAL } },
	{ "a handle's GET_FLAGS", OF_HANDLE(ION_LEGACY_IOC_GET_FLAGS, -1, client_file) },
	{ "a handle's GET_FLAGS", READ_ONLY, OF_HANDLE(ION_LEGACY_IOC_GET_FLAGS, -1, client_file) },
	{ "a handle's GET_FLAGS", UNREADABLE, OF_HANDLE(ION_LEGACY_IOC_GET_FLAGS, -1, client_file) },
	{ "SYNC of a dma-buf", OF_HANDLE(ION_LEGACY_IOC_SYNC, -1, client_to_import) },
	{ "SYNC of a dma-buf", UNREADABLE, OF_HANDLE(ION_LEGACY_IOC_SYNC, -1, client_to_import) },
	{ "a handle's CLEAN_CACHES",
	  OF_HANDLE(ION_LEGACY_IOC_CLEAN_CACHES, -1, client_with_mapping) },
	{ "a handle's CLEAN_CACHES", UNREADABLE,
	  OF_HANDLE(ION_LEGACY_IOC_CLEAN_CACHES, -1, client_with_mapping) },
	{ "a handle's INV_CACHES",
	  OF_HANDLE(ION_LEGACY_IOC_INV_CACHES, -1, client_with_mapping) },
	{ "a handle's CLEAN_INV_CACHES",
	  OF_HANDLE(ION_LEGACY_IOC_CLEAN_INV_CACHES, -1, client_with_mapping) },
	{ "CLEAN_CACHES of a dma-buf", OF_HANDLE(ION_LEGACY_IOC_CLEAN_CACHES, -1, client_with_fd) },
	{ "INV_CACHES of a dma-buf", OF_HANDLE(ION_LEGACY_IOC_INV_CACHES, -1, client_with_fd) },
	{ "CLEAN_INV_CACHES of a dma-buf",
	  OF_HANDLE(ION_LEGACY_IOC_CLEAN_INV_CACHES, -1, client_with_fd) },
	{ "CLEAN_INV_CACHES of a dma-buf", UNREADABLE,
	  OF_HANDLE(ION_LEGACY_IOC_CLEAN_INV_CACHES, -1, client_with_fd) },
#if __SIZEOF_POINTER__ == 4
	{ "a handle's ALLOC, first form", .allocates = true,
	  LEGACY_ALLOC_BY(ION_LEGACY_IOC_ALLOC_V0, legacy_page_v0) },
	{ "a handle's ALLOC, first form", NO_ID, .allocates = true,
	  LEGACY_ALLOC_BY(ION_LEGACY_IOC_ALLOC_V0, legacy_page_v0) },
	{ "a handle's ALLOC, first form", READ_ONLY,
	  LEGACY_ALLOC_BY(ION_LEGACY_IOC_ALLOC_V0, legacy_page_v0) },
	{ "a handle's ALLOC, first form", UNREADABLE,
	  LEGACY_ALLOC_BY(ION_LEGACY_IOC_ALLOC_V0, legacy_page_v0) },
	{ "a handle's GET_FLAGS, first form",
	  OF_HANDLE(ION_LEGACY_IOC_GET_FLAGS_V0, -1, client_file) },
	{ "a handle's GET_FLAGS, first form", READ_ONLY,
	  OF_HANDLE(ION_LEGACY_IOC_GET_FLAGS_V0, -1, client_file) },
	{ "a handle's CLEAN_CACHES, first form",
	  OF_HANDLE(ION_LEGACY_IOC_CLEAN_CACHES_V0, -1, client_with_mapping) },
	{ "a handle's CLEAN_CACHES, first form", UNREADABLE,
	  OF_HANDLE(ION_LEGACY_IOC_CLEAN_CACHES_V0, -1, client_with_mapping) },
	{ "a handle's INV_CACHES, first form",
	  OF_HANDLE(ION_LEGACY_IOC_INV_CACHES_V0, -1, client_with_mapping) },
	{ "a handle's CLEAN_INV_CACHES, first form",
	  OF_HANDLE(ION_LEGACY_IOC_CLEAN_INV_CACHES_V0, -1, client_with_mapping) },
#endif
	{ "CUSTOM of a heap that is secured",
	  LEGACY_CUSTOM(legacy_secure, prepare_device, undo_ioctl) },
	{ "CUSTOM of a heap that is secured", UNREADABLE,
	  LEGACY_CUSTOM(legacy_secure, prepare_device, undo_ioctl) },
	{ "CUSTOM of a heap that is not secured",
	  LEGACY_CUSTOM(legacy_secure, prepare_unsecured, undo_ioctl) },
	{ "CUSTOM to unsecure a heap",
	  LEGACY_CUSTOM(legacy_unsecure, prepare_device, undo_unsecure) },
	{ "CUSTOM to unsecure a heap", UNREADABLE,
	  LEGACY_CUSTOM(legacy_unsecure, prepare_device, undo_unsecure) },

	{ "DMA_HEAP_IOCTL_ALLOC a page of system", .allocates = true,
	  HEAP_ALLOC("system", heap_page) },
	{ "DMA_HEAP_IOCTL_ALLOC a page of system", READ_ONLY, HEAP_ALLOC("system", heap_page) },
	{ "DMA_HEAP_IOCTL_ALLOC a page of system", UNREADABLE, HEAP_ALLOC("system", heap_page) },
	{ "DMA_HEAP_IOCTL_ALLOC a page of system", NO_DESCRIPTOR, HEAP_ALLOC("system", heap_page) },
	{ "DMA_HEAP_IOCTL_ALLOC 64 KiB of system", .allocates = true,
	  HEAP_ALLOC("system", heap_large) },
	{ "DMA_HEAP_IOCTL_ALLOC a page of reserved", .allocates = true,
	  HEAP_ALLOC("reserved", heap_page) },
	{ "DMA_HEAP_IOCTL_ALLOC 64 KiB of reserved", .allocates = true,
	  HEAP_ALLOC("reserved", heap_large) },
	{ "DMA_HEAP_IOCTL_ALLOC 64 KiB of reserved", READ_ONLY, HEAP_ALLOC("reserved", heap_large) },
	{ "DMA_HEAP_IOCTL_ALLOC 64 KiB of reserved", NO_DESCRIPTOR,
	  HEAP_ALLOC("reserved", heap_large) },
	{ "DMA_HEAP_IOCTL_ALLOC with flags of a heap", REFUSED, HEAP_ALLOC("system", heap_flags),
	  .errors = { EINVAL } },
	{ "DMA_HEAP_IOCTL_ALLOC 1 TiB", REFUSED, HEAP_ALLOC("reserved", heap_huge),
	  .errors = { ENOMEM } },

	{ "CMEM_ALLOCATE a page", .allocates = true, CMEM_REGION(cmem_page, prepare_device) },
	{ "CMEM_ALLOCATE a page", NO_ID, .allocates = true,
	  CMEM_REGION(cmem_page, prepare_device) },
	{ "CMEM_ALLOCATE a page", READ_ONLY, CMEM_REGION(cmem_page, prepare_device) },
	{ "CMEM_ALLOCATE a page", UNREADABLE, CMEM_REGION(cmem_page, prepare_device) },
	{ "CMEM_ALLOCATE a page with a name", .allocates = true,
	  CMEM_REGION(cmem_page, prepare_named) },
	{ "CMEM_ALLOCATE a page with a name", READ_ONLY, CMEM_REGION(cmem_page, prepare_named) },
	{ "CMEM_ALLOCATE a page with a bad name", REFUSED,
	  CMEM_REGION(cmem_page, prepare_bad_name), .errors = { EFAULT } },
	{ "CMEM_ALLOCATE 64 KiB, cached", .allocates = true,
	  CMEM_REGION(cmem_large, prepare_device) },
	{ "CMEM_ALLOCATE 64 KiB, cached", NO_ID, .allocates = true, .first = 8 * MOST_NODES,
	  CMEM_REGION(cmem_large, prepare_device) },
	{ "CMEM_ALLOCATE 64 KiB, cached", READ_ONLY, CMEM_REGION(cmem_large, prepare_device) },
	{ "CMEM_ALLOCATE of a connected file", REFUSED,
	  CMEM_TOLD(CMEM_ALLOCATE, connected_file), .errors = { EPERM } },
	{ "CMEM_GET_PHYS", CMEM_TOLD(CMEM_GET_PHYS, told_file) },
	{ "CMEM_GET_PHYS", READ_ONLY, CMEM_TOLD(CMEM_GET_PHYS, told_file) },
	{ "CMEM_GET_PHYS", UNREADABLE, CMEM_TOLD(CMEM_GET_PHYS, told_file) },
	{ "CMEM_MAP", CMEM_TOLD(CMEM_MAP, told_file) },
	{ "CMEM_MAP", READ_ONLY, CMEM_TOLD(CMEM_MAP, told_file) },
	{ "CMEM_MAP", UNREADABLE, CMEM_TOLD(CMEM_MAP, told_file) },
	{ "CMEM_GET_SIZE", CMEM_TOLD(CMEM_GET_SIZE, told_file) },
	{ "CMEM_GET_SIZE", READ_ONLY, CMEM_TOLD(CMEM_GET_SIZE, told_file) },
	{ "CMEM_GET_SIZE", UNREADABLE, CMEM_TOLD(CMEM_GET_SIZE, told_file) },
	{ "CMEM_GET_TOTAL_SIZE", CMEM_TOLD(CMEM_GET_TOTAL_SIZE, told_file) },
	{ "CMEM_GET_TOTAL_SIZE", READ_ONLY, CMEM_TOLD(CMEM_GET_TOTAL_SIZE, told_file) },
	{ "CMEM_GET_TOTAL_SIZE", UNREADABLE, CMEM_TOLD(CMEM_GET_TOTAL_SIZE, told_file) },
	{ "CMEM_CACHE_FLUSH", CMEM_TOLD(CMEM_CACHE_FLUSH, told_file) },
	{ "CMEM_CACHE_FLUSH", UNREADABLE, CMEM_TOLD(CMEM_CACHE_FLUSH, told_file) },
	{ "CMEM_UNMAP", CMEM_TOLD_UNDONE_BY(CMEM_UNMAP, told_file, undo_unmap) },
	{ "CMEM_UNMAP of a mapped region", CMEM_TOLD(CMEM_UNMAP, told_and_mapped) },
	{ "CMEM_UNMAP", UNREADABLE, CMEM_TOLD(CMEM_UNMAP, told_file) },
	{ "CMEM_UNMAP of a connected file", REFUSED, CMEM_TOLD(CMEM_UNMAP, connected_file),
	  .errors = { EPERM } },
	{ "CMEM_CONNECT", CMEM_TOLD_UNDONE_BY(CMEM_CONNECT, file_to_connect, undo_connect) },
	{ "CMEM_CONNECT", UNREADABLE, CMEM_TOLD(CMEM_CONNECT, file_to_connect) },
	{ "CMEM_CONNECT with a region", REFUSED, CMEM_TOLD(CMEM_CONNECT, file_with_region),
	  .errors = { EBUSY } },
	{ "CMEM_IOC_ALLOC a page", .allocates = true, CMEM_ALLOC(cmem_alloc_page) },
	{ "CMEM_IOC_ALLOC a page", READ_ONLY, CMEM_ALLOC(cmem_alloc_page) },
	{ "CMEM_IOC_ALLOC a page", UNREADABLE, CMEM_ALLOC(cmem_alloc_page) },
	{ "CMEM_IOC_ALLOC a page", NO_DESCRIPTOR, CMEM_ALLOC(cmem_alloc_page) },
	{ "CMEM_IOC_ALLOC 64 KiB, cached", .allocates = true, CMEM_ALLOC(cmem_alloc_large) },
	{ "CMEM_IOC_ALLOC 64 KiB, cached", READ_ONLY, CMEM_ALLOC(cmem_alloc_large) },
	{ "CMEM_IOC_ALLOC 64 KiB, cached", NO_DESCRIPTOR, CMEM_ALLOC(cmem_alloc_large) },
	{ "CMEM_IOC_EXPORT", .allocates = true, CMEM_EXPORT(region_file) },
	{ "CMEM_IOC_EXPORT", READ_ONLY, CMEM_EXPORT(region_file) },
	{ "CMEM_IOC_EXPORT", UNREADABLE, CMEM_EXPORT(region_file) },
	{ "CMEM_IOC_EXPORT", NO_DESCRIPTOR, CMEM_EXPORT(region_file) },
	{ "CMEM_IOC_EXPORT once more", .allocates = true, CMEM_EXPORT(exported_file) },
	{ "CMEM_IOC_EXPORT once more", READ_ONLY, CMEM_EXPORT(exported_file) },

	{ "mmap of the exporter", MMAP(1, prepare_device), .path = "/dev/exporter",
	  .flags = O_RDWR },
	{ "mmap of the exporter's dma-buf", MMAP(1, prepare_made), .make = exporter_buffer },
	{ "mmap of a region", MMAP(MAPPED, prepare_made), .make = region_file },
	{ "mmap of a region's dma-buf", MMAP(MAPPED, prepare_made), .make = region_buffer },
	{ "mmap of cma_mem's dma-buf", MMAP(MAPPED, prepare_made), .make = cmem_buffer },
	{ "mmap of scattered pages", MMAP(MAPPED, prepare_made), .heaps = SYSTEM_HEAP },
	{ "mmap of scattered pages, cached", MMAP(MAPPED, prepare_made), .heaps = SYSTEM_HEAP,
	  .heap_flags = ION_FLAG_CACHED },
	{ "mmap of scattered pages for direct I/O", MMAP(MAPPED, prepare_made),
	  .heaps = DIRECT_HEAP, .heap_flags = ION_FLAG_CACHED },
	{ "mmap of contiguous memory", MMAP(MAPPED, prepare_made), .heaps = DMA_HEAP },
	{ "mmap of a block", MMAP(MAPPED, prepare_made), .heaps = CONTIG_HEAP,
	  .heap_flags = ION_FLAG_CACHED },
	{ "mmap of a carveout", MMAP(MAPPED, prepare_made), .heaps = CARVEOUT_HEAP },
	{ "mmap of a dma-heap's buffer", MMAP(CONTIGUOUS, prepare_made), .make = heap_buffer },
	{ "mmap of protected memory", REFUSED, MMAP(CONTIGUOUS, prepare_made),
	  .heaps = SECURED_HEAP, .errors = { EPERM } },
	{ "mmap of protected contiguous memory", REFUSED, MMAP(1, prepare_made),
	  .heaps = SECURED_DMA_HEAP, .heap_flags = ION_FLAG_CACHED, .errors = { EPERM } },
	{ "munmap amid a dma-buf", OF_MAPPING(CONTIGUOUS, call_munmap, undo_munmap) },
	{ "munmap amid a region", OF_MAPPING(CONTIGUOUS, call_munmap, undo_munmap),
	  .make = region_file },
	{ "mremap of a dma-buf", OF_MAPPING(MAPPED, call_mremap, undo_mremap) },
	{ "mremap of a region", OF_MAPPING(MAPPED, call_mremap, undo_mremap), .make = region_file },
	{ "fork with a dma-buf", OF_MAPPING(CONTIGUOUS, call_fork, undo_fork) },
	{ "fork with a region", OF_MAPPING(CONTIGUOUS, call_fork, undo_fork), .make = region_file },

	{ "DMA_BUF_IOCTL_SYNC start", OF_DMA_BUF(DMA_BUF_IOCTL_SYNC, sync_start, -1) },
	{ "DMA_BUF_IOCTL_SYNC end", OF_DMA_BUF(DMA_BUF_IOCTL_SYNC, sync_end, -1) },
	{ "DMA_BUF_SET_NAME", .allocates = true, OF_DMA_BUF(DMA_BUF_SET_NAME, "fail-nth", -1) },
	{ "DMA_BUF_SET_NAME", UNREADABLE, OF_DMA_BUF(DMA_BUF_SET_NAME, "fail-nth", -1) },
	{ "DMA_BUF_SET_NAME of a region's dma-buf", .allocates = true,
	  OF_DMA_BUF(DMA_BUF_SET_NAME, "fail-nth", -1), .make = region_buffer },
	{ "DMA_BUF_IOCTL_EXPORT_SYNC_FILE", .allocates = true,
	  OF_DMA_BUF(DMA_BUF_IOCTL_EXPORT_SYNC_FILE, sync_file,
		     offsetof(struct dma_buf_export_sync_file, fd)) },
	{ "DMA_BUF_IOCTL_IMPORT_SYNC_FILE", .allocates = true, .length = CONTIGUOUS,
	  .heaps = SYSTEM_HEAP, .request = DMA_BUF_IOCTL_IMPORT_SYNC_FILE, .fd_at = -1,
	  .prepare = prepare_sync_file, .call = call_ioctl, .undo = undo_ioctl },

	{ "read the buffers of ion",
	  READ("/sys/kernel/debug/ion/buffers", " fail\\040nth\n", SYSTEM_HEAP) },
	{ "read the buffers of cma_mem",
	  READ("/sys/kernel/debug/cma_mem/buffers", " fail\\040nth\n", 0), .make = cmem_buffer },
	{ "read the buffers of the exporter",
	  READ("/sys/kernel/debug/exporter/buffers", " fail\\040nth\n", 0),
	  .make = exporter_buffer },
	{ "read the heaps of ion",
	  READ("/sys/kernel/debug/ion/heaps", "\nsecured_dma ", CARVEOUT_HEAP) },
	{ "read the clients of ion",
	  READ_WITH(prepare_made, "/sys/kernel/debug/ion/clients", "       1         4096 ", SYSTEM_HEAP),
	  .make = client_file },
	{ "read the heap of cma_mem",
	  READ("/sys/kernel/debug/cma_mem/heaps", "contiguous", 0), .make = cmem_buffer },
	{ "read the buffers of a heap",
	  READ("/sys/class/misc/ion/heap1/buffers", "1\n", CONTIG_HEAP) },
	{ "read what is left of a carveout",
	  READ("/sys/class/misc/ion/heap2/largest_free", "4190208\n", CARVEOUT_HEAP) },
	{ "read the name of a heap",
	  READ("/sys/class/misc/ion/heap3/name", "secured\n", SECURED_HEAP) },
	{ "read the bytes of a dma-heap",
	  READ("/sys/class/dma_heap/reserved/bytes", "4096\n", 0), .make = heap_buffer },

	{ "vgem imports scattered pages", IMPORT, .heaps = SYSTEM_HEAP, .length = IMPORTED },
	{ "vgem imports scattered pages, cached", IMPORT, .heaps = SYSTEM_HEAP, .length = IMPORTED,
	  .heap_flags = ION_FLAG_CACHED },
	{ "vgem imports contiguous memory", IMPORT, .heaps = DMA_HEAP, .length = CONTIGUOUS },
	{ "vgem imports a region", IMPORT, .length = CONTIGUOUS, .make = region_buffer },
	{ "vgem imports cma_mem's dma-buf", IMPORT, .length = CONTIGUOUS, .make = cmem_buffer },
	{ "vgem imports the exporter's page", IMPORT, .make = exporter_buffer },
	{ "vgem imports a block", IMPORT, .heaps = CONTIG_HEAP, .length = CONTIGUOUS,
	  .heap_flags = ION_FLAG_CACHED },
	{ "vgem imports a piece of a carveout", IMPORT, .heaps = CARVEOUT_HEAP,
	  .length = CONTIGUOUS },
	{ "vgem imports protected memory", IMPORT, .heaps = SECURED_HEAP, .length = CONTIGUOUS },
	{ "vgem imports a dma-heap's buffer", IMPORT, .length = CONTIGUOUS, .make = heap_buffer },
	{ "read the buffers of ion, with a device", .driver = &vgem,
	  READ_WITH(prepare_named_import, "/sys/kernel/debug/ion/buffers", " mapped\n",
		    CARVEOUT_HEAP) },
	{ "vivid maps scattered pages for the CPU", QUEUE,
	  .heaps = SYSTEM_HEAP },
	{ "vivid maps contiguous memory for the CPU", QUEUE,
	  .heaps = DMA_HEAP, .heap_flags = ION_FLAG_CACHED },
	{ "vivid maps a region for the CPU", QUEUE, .make = region_buffer },
	{ "vivid maps cma_mem's dma-buf for the CPU", QUEUE, .make = cmem_buffer },
	{ "vivid maps a block for the CPU", QUEUE, .heaps = CONTIG_HEAP },
	{ "vivid maps a piece of a carveout for the CPU", QUEUE, .heaps = CARVEOUT_HEAP,
	  .heap_flags = ION_FLAG_CACHED },
	/* vb2 says EFAULT whatever it was told. */
	{ "vivid maps protected memory for the CPU", REFUSED, QUEUE, .heaps = SECURED_HEAP },
};

#define OPERATION_COUNT	(sizeof(operations) / sizeof(operations[0]))

/* Making something fail. */

static int fail_nth = -1;

static void set_nth(unsigned int n)
{
	char text[16];
	int length = snprintf(text, sizeof(text), "%u", n);

	need("/proc/self/fail-nth", pwrite(fail_nth, text, length, 0));
}

static unsigned int get_nth(void)
{
	char text[16] = "";

	need("/proc/self/fail-nth", pread(fail_nth, text, sizeof(text) - 1, 0));
	return atoi(text);
}

#define FAILSLAB	"/sys/kernel/debug/failslab/"
#define PAGE_ALLOC	"/sys/kernel/debug/fail_page_alloc/"
#define NODES		"radix_tree_node"

/*
 * What the kernel's own debugging allocates for: DMA_API_DEBUG for its
 * knowledge of each mapping, and kmemleak. Both turn themselves off when they
 * do not get it, and then they are missed. And what 6.12 warns of when a module
 * with tracepoints is loaded: their fields (event_define_fields()).
 */
static bool belongs_to_debugging(const char *cache)
{
	return !strcmp(cache, NODES) || !strcmp(cache, "ftrace_event_field") ||
	       !strncmp(cache, "kmemleak_", strlen("kmemleak_"));
}

static void choose_caches(enum kind kind)
{
	static int chosen_for = -1;
	struct dirent *entry;
	DIR *directory;
	char path[512];
	bool chosen;

	/* The other kinds do not care. */
	if (chosen_for == (int)kind || (kind != NTH && kind != NO_ID))
		return;
	chosen_for = kind;
	directory = opendir("/sys/kernel/slab");
	if (!directory)
		wrong("/sys/kernel/slab: %s", strerror(errno));
	while ((entry = readdir(directory))) {
		if (entry->d_name[0] == '.')
			continue;
		if (kind == NO_ID)
			chosen = !strcmp(entry->d_name, NODES);
		else
			chosen = !belongs_to_debugging(entry->d_name);
		snprintf(path, sizeof(path), "/sys/kernel/slab/%s/failslab", entry->d_name);
		set(path, chosen ? "1" : "0");
	}
	closedir(directory);
}

/* What is allocated inside of a function of the kernel's is neither counted nor made to fail. */
static void leave_alone(const char *function, const char *start, const char *end)
{
	const char *bounds[] = { start, end };
	char line[512], name[64], text[32];
	unsigned int found = 0;
	FILE *symbols;

	symbols = fopen("/proc/kallsyms", "re");
	if (!symbols)
		wrong("/proc/kallsyms: %s", strerror(errno));
	snprintf(name, sizeof(name), " %s\n", function);
	/* In the order of their addresses: it ends where the next one begins. */
	while (found < 2 && fgets(line, sizeof(line), symbols)) {
		if (!found && !strstr(line, name))
			continue;
		snprintf(text, sizeof(text), "0x%lx", strtoul(line, NULL, 16));
		set(bounds[found++], text);
	}
	fclose(symbols);
	if (found < 2)
		wrong("/proc/kallsyms: no %s", function);
}

/* No page is of this order. */
#define NO_ORDER	"64"

static void set_up(void)
{
	/*
	 * What comes once in a while makes the n-th allocation another one:
	 * page_owner remembers each new way in which a page is got, in memory
	 * from a cache that is everybody's, and any cache may need a page.
	 */
	leave_alone("__set_page_owner", FAILSLAB "reject-start", FAILSLAB "reject-end");
	leave_alone("___slab_alloc", PAGE_ALLOC "reject-start", PAGE_ALLOC "reject-end");
	set(FAILSLAB "cache-filter", "Y");
	set(FAILSLAB "task-filter", "Y");
	set(FAILSLAB "verbose", "0");
	set(PAGE_ALLOC "ignore-gfp-wait", "N");
	set(PAGE_ALLOC "ignore-gfp-highmem", "N");
	set(PAGE_ALLOC "verbose", "0");
}

/* Lets those from caches fail; or the others, beside which come those from caches that may not sleep. */
static void choose(bool others)
{
	set(FAILSLAB "ignore-gfp-wait", others ? "Y" : "N");
	set(PAGE_ALLOC "min-order", others ? "0" : NO_ORDER);
}

/*
 * xarrays take a node without waiting for it, and only when there is none with
 * waiting: two have to fail in a row. @nodes before these are granted.
 */
static void fail_nodes_after(unsigned int nodes)
{
	char text[32];

	snprintf(text, sizeof(text), "%ld",
		 nodes * read_number("/sys/kernel/slab/" NODES "/object_size") + 1);
	set(FAILSLAB "space", text);
	set(FAILSLAB "times", "2");
	set("/proc/self/make-it-fail", "1");
	set(FAILSLAB "probability", "100");
}

static bool nodes_have_failed(void)
{
	bool failed;

	set(FAILSLAB "probability", "0");
	failed = read_number(FAILSLAB "times") != 2;
	set(FAILSLAB "times", "1");
	set(FAILSLAB "space", "0");
	return failed;
}

/* Uses all descriptors there is room for: the next one needs a larger table. */
static void crowd(unsigned char *mine, int size)
{
	for (int fd = 0; fd < size; fd++) {
		mine[fd] = fcntl(fd, F_GETFD) < 0;
		if (mine[fd])
			need("dup2", dup2(fail_nth, fd));
	}
}

static void thin_out(const unsigned char *mine, int size)
{
	for (int fd = 0; fd < size; fd++)
		if (mine[fd])
			close(fd);
}

static int table_size(void)
{
	char text[4096], *line;

	need("/proc/self/status", read_file("/proc/self/status", text, sizeof(text)));
	line = strstr(text, "FDSize:");
	return line ? atoi(line + strlen("FDSize:")) : 0;
}

/* Answers with the limit before. */
static rlim_t limit_descriptors(rlim_t most)
{
	struct rlimit limit;
	rlim_t before;

	need("getrlimit", getrlimit(RLIMIT_NOFILE, &limit));
	before = limit.rlim_cur;
	limit.rlim_cur = most;
	need("setrlimit", setrlimit(RLIMIT_NOFILE, &limit));
	return before;
}

static void protect(int how)
{
	need("mprotect", mprotect(argument, sysconf(_SC_PAGESIZE), how));
}

/* The call itself, made to fail: its errno. @n is where an allocation fails. */
static int call(const struct operation *operation, unsigned int n)
{
	unsigned char mine[1024];
	int size = table_size();
	rlim_t most;
	int error;

	if (size > (int)sizeof(mine))
		wrong("a table of %d descriptors", size);
	crowd(mine, size);

	outcome->injected = true;
	switch (operation->kind) {
	case NTH:
		/* No page of ours has to be fetched in the call. */
		need("mlockall", mlockall(MCL_CURRENT));
		set_nth(n);
		error = operation->call(operation) < 0 ? errno : 0;
		outcome->injected = get_nth() == 0;
		set_nth(0);
		break;
	case NO_ID:
		thin_out(mine, size);
		fail_nodes_after(n);
		error = operation->call(operation) < 0 ? errno : 0;
		outcome->injected = nodes_have_failed();
		return error;
	case READ_ONLY:
	case UNREADABLE:
		protect(operation->kind == READ_ONLY ? PROT_READ : PROT_NONE);
		error = operation->call(operation) < 0 ? errno : 0;
		protect(PROT_READ | PROT_WRITE);
		break;
	case NO_DESCRIPTOR:
		most = limit_descriptors(0);
		error = operation->call(operation) < 0 ? errno : 0;
		limit_descriptors(most);
		break;
	default:
		error = operation->call(operation) < 0 ? errno : 0;
	}
	thin_out(mine, size);

	return error;
}

static bool is_plausible(const struct operation *operation, int error)
{
	switch (operation->kind) {
	case READ_ONLY:
	case UNREADABLE:
		return error == EFAULT;
	case NO_DESCRIPTOR:
		return error == EMFILE;
	case REFUSED:
		return error == operation->errors[0];
	default:
		return error == ENOMEM || error == operation->errors[0] ||
		       error == operation->errors[1];
	}
}

static void step(const struct operation *operation, unsigned int n)
{
	struct state before;
	char text[256];
	int error;

	in_step = true;
	begin_to_look();
	/* It is the process which opens it that it makes fail. */
	fail_nth = need("/proc/self/fail-nth", open("/proc/self/fail-nth", O_RDWR | O_CLOEXEC));
	if (operation->prepare)
		operation->prepare(operation);
	look(&before);
	error = call(operation, n);
	outcome->error = error;
	if (error && !outcome->injected)
		wrong("%s, although nothing was made to fail", strerror(error));
	if (error && !is_plausible(operation, error))
		wrong("an errno it must not have: %s", strerror(error));
	if (!error && operation->kind != NTH && operation->kind != NO_ID)
		wrong("it succeeded");
	if (!error)
		operation->undo(operation);
	if (differs(&before, text, sizeof(text)))
		wrong("left behind after %s: %s", error ? strerror(error) : "it was undone", text);
}

static void complain(const struct operation *operation, unsigned int n, const char *what)
{
	fprintf(stderr, "%s, %s, n = %u: %s\n", operation->name, kinds[operation->kind], n, what);
}

/* Says where the step is, to the guest's watch for reports too; it may be impossible to end. */
static __attribute__((noreturn)) void does_not_end(const struct operation *operation,
						   unsigned int n, pid_t child)
{
	/* 32-bit ARM knows the stack of no other process. */
	static const char *const places[] = { "syscall", "wchan", "stack" };
	char path[32], text[8192];

	complain(operation, n, "does not end");
	for (unsigned int i = 0; i < sizeof(places) / sizeof(places[0]); i++) {
		snprintf(path, sizeof(path), "/proc/%d/%s", child, places[i]);
		if (read_file(path, text, sizeof(text)) > 0)
			fprintf(stderr, "%s: %s\n", places[i], text);
	}
	kill(child, SIGKILL);
	snprintf(text, sizeof(text), "BUG: fail-nth: %s does not end\n", operation->name);
	set("/dev/kmsg", text);
	exit(3);
}

/* A step in a process of its own. SIGCHLD, which main() blocks, tells of its end. */
static bool step_apart(const struct operation *operation, unsigned int n)
{
	static const struct timespec patience = { .tv_sec = STEP_SECONDS };
	pid_t child, ended;
	sigset_t signals;
	int status;

	memset(outcome, 0, sizeof(*outcome));
	child = fork();
	if (!child) {
		step(operation, n);
		_exit(0);
	}
	sigemptyset(&signals);
	sigaddset(&signals, SIGCHLD);
	while ((ended = waitpid(child, &status, WNOHANG)) == 0)
		if (sigtimedwait(&signals, NULL, &patience) < 0 && errno == EAGAIN)
			does_not_end(operation, n, child);
	if (child < 0 || ended != child) {
		perror("a process for a step");
		exit(2);
	}
	if (WIFSIGNALED(status))
		snprintf(outcome->complaint, sizeof(outcome->complaint), "killed by %s",
			 strsignal(WTERMSIG(status)));
	if (outcome->complaint[0])
		complain(operation, n, outcome->complaint);
	return !outcome->complaint[0];
}

/* Loads a module once; whether its own code ran, if the @n-th allocation fails, which is not reached if @left. */
static bool gets_to_own_code(const struct operation *operation, unsigned int n, unsigned int *left)
{
	char trace[4096];

	close(need(TRACING "/trace", open(TRACING "/trace", O_WRONLY | O_TRUNC | O_CLOEXEC)));
	fail_nth = need("/proc/self/fail-nth", open("/proc/self/fail-nth", O_RDWR | O_CLOEXEC));
	prepare_load(operation);
	need("mlockall", mlockall(MCL_CURRENT));
	set_nth(n);
	load_module(source, operation->parameters ?: "");
	*left = get_nth();
	set_nth(0);
	munlockall();
	close(source);
	close(fail_nth);
	source = -1;
	fail_nth = -1;
	need(TRACING "/trace", read_file(TRACING "/trace", trace, sizeof(trace)));
	return strstr(trace, ": module_load: ");
}

/*
 * The first allocation of a module's own code, and a few before it. Where the
 * loader is refused something it makes others on its way back: that it fails
 * tells where, their number does not.
 */
static unsigned int find_own_code(const struct operation *operation)
{
	static const unsigned int plenty = 1000000;
	unsigned int before = 0, from, middle, left;

	set(TRACING "/events/module/module_load/enable", "1");
	if (!gets_to_own_code(operation, plenty, &left) || !left)
		wrong("%s: nobody saw it being loaded", operation->path);
	from = plenty - left + 1;
	while (from - before > 1) {
		middle = before + (from - before) / 2;
		if (gets_to_own_code(operation, middle, &left))
			from = middle;
		else
			before = middle;
	}
	set(TRACING "/events/module/module_load/enable", "0");
	return from > MARGIN ? from - MARGIN : 1;
}

struct sums {
	unsigned int steps, survived, failures[256];
};

/* One step, or as many as it takes. NO_ID goes downwards: its node is the last. */
static bool walk(const struct operation *operation, bool others, struct sums *sums)
{
	unsigned int n = operation->first ?: (operation->kind == NO_ID ? MOST_NODES : 1);
	struct state idle;
	char text[256];
	bool done;

	choose(others);
	if (operation->kind == NTH && operation->call == call_load)
		n = find_own_code(operation);
	look(&idle);
	for (;;) {
		if (!step_apart(operation, n))
			return false;
		sums->steps++;
		if (outcome->error)
			sums->failures[outcome->error % 256]++;
		else if (outcome->injected)
			sums->survived++;

		/* What was left to be freed with the process. */
		if (!modules_come_and_go && differs(&idle, text, sizeof(text))) {
			complain(operation, n, text);
			return false;
		}
		if (operation->kind == NTH)
			done = !outcome->injected;
		else
			done = operation->kind != NO_ID || outcome->injected;
		if (done)
			return true;
		if (n == (operation->kind == NO_ID ? 0 : MOST_STEPS)) {
			complain(operation, n, "no end of it");
			return false;
		}
		n += operation->kind == NO_ID ? -1 : 1;
	}
}

static bool run(const struct operation *operation)
{
	bool loaded[MODULE_COUNT];
	struct sums sums = { 0 };
	const char *comma = "";
	struct state idle;
	char text[256];
	long before = pages;
	unsigned int survived;
	bool ok;

	for (unsigned int i = 0; i < MODULE_COUNT; i++)
		loaded[i] = is_loaded(modules[i]);
	choose_caches(operation->kind);
	modules_come_and_go = operation->call == call_load || operation->call == call_unload;
	if (operation->call == call_load)
		fetch_module(operation->path);
	look(&idle);

	ok = true;
	for (int kind = 0; ok && kind <= (operation->kind == NTH); kind++) {
		survived = sums.survived;
		ok = walk(operation, kind == 1, &sums);
		/*
		 * What the kernel does without may be there once and not again, so
		 * that n is another allocation: one more walk meets what the first
		 * missed.
		 */
		if (ok && sums.survived > survived && !modules_come_and_go)
			ok = walk(operation, kind == 1, &sums);
	}

	for (unsigned int i = 0; i < MODULE_COUNT; i++)
		if (loaded[i])
			need_loaded(modules[i], true);
	if (ok && differs(&idle, text, sizeof(text))) {
		complain(operation, sums.steps, text);
		ok = false;
	}
	/* It takes as long as many a step. What a single step leaves behind is found after the next ones. */
	if (sums.steps > 1 || is_last)
		pages = count_pages();
	if (ok && pages > before) {
		snprintf(text, sizeof(text), "%ld pages of our modules, after %s %ld", pages,
			 counted_after, before);
		complain(operation, sums.steps, text);
		ok = false;
	}
	if (sums.steps > 1)
		counted_after = operation->name;

	printf("{\"operation\":\"%s\",\"kind\":\"%s\",\"steps\":%u,\"failures\":{",
	       operation->name, kinds[operation->kind], sums.steps);
	for (unsigned int i = 0; i < 256; i++) {
		if (!sums.failures[i])
			continue;
		printf("%s\"%s\":%u", comma, strerrorname_np(i), sums.failures[i]);
		comma = ",";
	}
	printf("},\"survived\":%u,\"ok\":%s}\n", sums.survived, ok ? "true" : "false");
	fflush(stdout);
	return ok;
}

static void list(void)
{
	for (unsigned int i = 0; i < OPERATION_COUNT; i++) {
		const struct operation *operation = &operations[i];

		printf("{\"operation\":\"%s\",\"kind\":\"%s\",\"allocates\":%s", operation->name,
		       kinds[operation->kind], operation->allocates ? "true" : "false");
		if (operation->driver)
			printf(",\"driver\":\"%s\",\"parameters\":\"%s\"", operation->driver->name,
			       operation->driver->parameters);
		printf("}\n");
	}
}

/* An argument is the name of an operation, or KIND:NAME. */
static bool is_meant(const struct operation *operation, const char *argument)
{
	const char *kind = kinds[operation->kind];
	size_t length = strlen(kind);

	if (!strncmp(argument, kind, length) && argument[length] == ':')
		return !strcmp(argument + length + 1, operation->name);
	return !strcmp(argument, operation->name);
}

static bool run_all(const char *meant, bool last_of_all, bool *found)
{
	bool ok = true;

	*found = !meant;
	for (unsigned int i = 0; i < OPERATION_COUNT; i++) {
		if (meant && !is_meant(&operations[i], meant))
			continue;
		*found = true;
		is_last = meant ? last_of_all : i == OPERATION_COUNT - 1;
		ok &= run(&operations[i]);
	}
	return ok;
}

int main(int argc, char **argv)
{
	size_t page = sysconf(_SC_PAGESIZE);
	bool ok = true, found;
	sigset_t signals;

	if (argc > 1 && !strcmp(argv[1], "--list")) {
		list();
		return 0;
	}

	/*
	 * After a fork the kernel would write into a page that has to be
	 * copied, for rseq, and kill who has no memory for it.
	 */
	if (!getenv("GLIBC_TUNABLES")) {
		setenv("GLIBC_TUNABLES", "glibc.pthread.rseq=0", 1);
		execv("/proc/self/exe", argv);
		perror("/proc/self/exe");
		return 2;
	}

	outcome = mmap(NULL, page, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (argc > 1 && outcome != MAP_FAILED && !strcmp(argv[1], "--load-heaps")) {
		need_loaded("ion_lite", false);
		need_loaded("ion_lite", true);
		return 0;
	}
	argument = mmap(NULL, page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	read_only = mmap(NULL, page, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (outcome == MAP_FAILED || argument == MAP_FAILED || read_only == MAP_FAILED) {
		perror("mmap");
		return 2;
	}
	sigemptyset(&signals);
	sigaddset(&signals, SIGCHLD);
	sigprocmask(SIG_BLOCK, &signals, NULL);
	set_up();
	begin_to_look();
	pages = count_pages();
	if (!pages) {
		fprintf(stderr, STACKS ": no page of ours, not even the exporter's\n");
		return 2;
	}

	for (int i = 1; i < argc || i == 1; i++) {
		ok &= run_all(argv[i], i >= argc - 1, &found);
		if (!found) {
			fprintf(stderr, "no operation %s: see --list\n", argv[i]);
			return 2;
		}
	}
	return ok ? 0 : 1;
}
