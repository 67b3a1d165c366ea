// SPDX-License-Identifier: MIT
/*
 * What holds pages of a buffer after it is closed: a pipe they were spliced
 * into, a read that is not over, memory registered with io_uring.
 *
 *	pins vmsplice HEAPS
 *	pins aio HEAPS DEVICE
 *	pins fixed HEAPS DEVICE
 *	pins uring HEAPS DEVICE
 *
 * allocates from the heaps of a mask of /dev/ion, has the pages held, closes
 * the buffer and all that belongs to it, prints "held", and waits for a line.
 * Then it takes other buffers, of which none may have such a page, and of which
 * none may change when what holds the pages is over. "uring" closes nothing, it
 * reads into the buffer as "fixed" does without registering it first. DEVICE is
 * a block device that nobody writes to. What the kernel refuses it says:
 * "refused: " and the error's number.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/aio_abi.h>
#include <linux/dm-ioctl.h>
#include <linux/io_uring.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/uio.h>
#include <unistd.h>

#include "../../../kernel-modules/include/uapi/dmabuf/ion.h"

#define MEBI		(1UL << 20)
/* A block of each size that it is made of, the last of them a page. */
#define SIZE		(MEBI + (64 << 10) + page_size)
/* Buffers that are taken while pages are held: more than was given back. */
#define OTHERS		48
/* Of the pages, those that a pipe has room for. */
#define SPLICED		4
/* Where they are in a buffer: at the end of its mebibyte, and behind. */
#define SPLICED_AT	(MEBI - 2 * page_size)

static size_t page_size;

static void fail(const char *what)
{
	fprintf(stderr, "pins: %s: %s\n", what, strerror(errno));
	exit(1);
}

static void complain(const char *what)
{
	fprintf(stderr, "pins: %s\n", what);
	exit(1);
}

/* Nobody has it after that. */
static void refused(int error)
{
	printf("refused: %d\n", error);
	exit(0);
}

static unsigned char pattern(size_t at)
{
	return at * 7 + (at >> 12);
}

/*
 * Buffers, and the pages they are made of.
 */

struct buffer {
	int device;
	int fd;
	unsigned char *bytes;
};

static struct buffer take(uint32_t heaps)
{
	struct ion_allocation_data data = {
		.len = SIZE, .heap_id_mask = heaps, .flags = ION_FLAG_CACHED,
	};
	struct buffer buffer = { .device = open("/dev/ion", O_RDONLY | O_CLOEXEC) };

	if (buffer.device < 0)
		fail("/dev/ion");
	if (ioctl(buffer.device, ION_IOC_ALLOC, &data))
		fail("ION_IOC_ALLOC");
	buffer.fd = data.fd;
	buffer.bytes = mmap(NULL, SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, buffer.fd, 0);
	if (buffer.bytes == MAP_FAILED)
		fail("mmap of a buffer");

	return buffer;
}

static void give_up(struct buffer *buffer)
{
	if (munmap(buffer->bytes, SIZE) || close(buffer->fd) || close(buffer->device))
		fail("a buffer cannot be closed");
}

/* Numbers of page frames; only of pages that somebody may hold. */
static uint64_t *frames_of(const struct buffer *buffer)
{
	int fd = open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC);
	size_t bytes = SIZE / page_size * sizeof(uint64_t);
	uint64_t *frames = malloc(bytes);

	if (fd < 0 || !frames)
		fail("pagemap");
	if (pread(fd, frames, bytes, (uintptr_t)buffer->bytes / page_size * sizeof(uint64_t)) !=
	    (ssize_t)bytes)
		fail("pagemap");
	close(fd);
	for (size_t i = 0; i < SIZE / page_size; i++) {
		frames[i] &= (1ULL << 55) - 1;
		if (!frames[i])
			complain("a page of a buffer has no number");
	}

	return frames;
}

/* Whether a page belongs to a block, as those of buffers do until they are freed. */
static bool in_block(uint64_t frame)
{
	int fd = open("/proc/kpageflags", O_RDONLY | O_CLOEXEC);
	uint64_t flags;

	if (fd < 0 || pread(fd, &flags, sizeof(flags), frame * sizeof(flags)) != sizeof(flags))
		fail("kpageflags");
	close(fd);

	return flags & (1 << 15 | 1 << 16);
}

/*
 * What is held: pages @first to @first + @count of a buffer that was closed.
 */

static uint64_t *held;
static size_t held_count;
static struct buffer others[OTHERS];

static void is_held(struct buffer *buffer, size_t first, size_t count)
{
	uint64_t *frames = frames_of(buffer);

	held = frames + first;
	held_count = count;
	if (!in_block(held[0]))
		complain("the page allocator had no block of pages");
	give_up(buffer);
	puts("held");
	fflush(stdout);
	if (getchar() == EOF)
		complain("nobody said when to go on");
}

static void take_others(uint32_t heaps)
{
	for (size_t i = 0; i < OTHERS; i++) {
		uint64_t *frames;

		others[i] = take(heaps);
		frames = frames_of(&others[i]);
		for (size_t j = 0; j < held_count; j++)
			for (size_t k = 0; k < SIZE / page_size; k++)
				if (held[j] == frames[k])
					complain("a buffer has a page that is held");
		free(frames);
		memset(others[i].bytes, i + 1, SIZE);
	}
	if (!in_block(held[0]))
		complain("a page that is held was freed");
}

static void look_at_others(void)
{
	for (size_t i = 0; i < OTHERS; i++) {
		for (size_t at = 0; at < SIZE; at++)
			if (others[i].bytes[at] != i + 1)
				complain("a buffer has bytes of somebody else");
		give_up(&others[i]);
	}
}

/* The block of the first page is gone with what held it. */
static void is_freed(void)
{
	for (int i = 0; in_block(held[0]); i++) {
		if (i == 1000)
			complain("nothing holds a page, and it is not freed");
		usleep(10000);
	}
}

/*
 * A pipe.
 */

static void vmsplice_into_pipe(uint32_t heaps)
{
	struct buffer buffer = take(heaps);
	size_t size = SPLICED * page_size;
	struct iovec part = { buffer.bytes + SPLICED_AT, size };
	unsigned char *bytes = malloc(size);
	ssize_t done;
	int ends[2];

	for (size_t at = 0; at < SIZE; at++)
		buffer.bytes[at] = pattern(at);
	if (!bytes || pipe(ends))
		fail("pipe");
	done = vmsplice(ends[1], &part, 1, 0);
	if (done < 0)
		refused(errno);
	if ((size_t)done != size)
		complain("vmsplice did not take all");
	is_held(&buffer, SPLICED_AT / page_size, SPLICED);
	take_others(heaps);
	for (size_t at = 0; at < size; at += done) {
		done = read(ends[0], bytes + at, size - at);
		if (done <= 0)
			fail("read of a pipe");
	}
	for (size_t at = 0; at < size; at++)
		if (bytes[at] != pattern(SPLICED_AT + at))
			complain("a pipe has other bytes than were spliced into it");
	look_at_others();
	is_freed();
}

static int open_direct(const char *path)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC | O_DIRECT);

	if (fd < 0)
		fail(path);

	return fd;
}

/* The same bytes, as everybody reads them. */
static void check_against(const char *path, const unsigned char *bytes)
{
	unsigned char *there = malloc(SIZE);
	int fd = open(path, O_RDONLY | O_CLOEXEC);

	if (!there || fd < 0 || pread(fd, there, SIZE, 0) != (ssize_t)SIZE)
		fail(path);
	if (memcmp(there, bytes, SIZE))
		complain("other bytes than the device has");
	close(fd);
	free(there);
}

/*
 * A device that answers when it is told to: one of the device mapper's, over
 * another, that is suspended meanwhile.
 */

#define CONTROL		"/dev/mapper/control"
#define NAME		"pins"

static struct {
	struct dm_ioctl head;
	struct dm_target_spec spec;
	char parameters[256];
} request;

static void mapper(unsigned long call, uint32_t flags)
{
	static int control = -1;

	if (control < 0)
		control = open(CONTROL, O_RDWR | O_CLOEXEC);
	if (control < 0)
		fail(CONTROL);
	request.head = (struct dm_ioctl) {
		.version = { DM_VERSION_MAJOR, 0, 0 },
		.data_size = sizeof(request),
		.data_start = sizeof(request.head),
		.target_count = call == DM_TABLE_LOAD,
		.flags = flags,
		.name = NAME,
	};
	if (ioctl(control, call, &request))
		fail("a device of the device mapper");
}

static void remove_mapped(void)
{
	mapper(DM_DEV_SUSPEND, 0);
	/* With its last descriptor, where that is still open. */
	mapper(DM_DEV_REMOVE, DM_DEFERRED_REMOVE);
}

/* Opens it. */
static int create_mapped(const char *device)
{
	char path[64];
	dev_t number;

	mapper(DM_DEV_CREATE, 0);
	number = request.head.dev;
	atexit(remove_mapped);
	request.spec = (struct dm_target_spec) { .length = SIZE / 512, .target_type = "linear" };
	snprintf(request.parameters, sizeof(request.parameters), "%s 0", device);
	mapper(DM_TABLE_LOAD, DM_READONLY_FLAG);
	mapper(DM_DEV_SUSPEND, 0);
	snprintf(path, sizeof(path), "/dev/dm-%u", minor(number));

	return open_direct(path);
}

static void aio(uint32_t heaps, const char *device)
{
	int fd = create_mapped(device);
	struct buffer buffer = take(heaps);
	struct iocb call = {
		.aio_lio_opcode = IOCB_CMD_PREAD,
		.aio_fildes = fd,
		.aio_buf = (uintptr_t)buffer.bytes,
		.aio_nbytes = SIZE,
	};
	struct iocb *calls = &call;
	aio_context_t context = 0;
	struct io_event event;

	mapper(DM_DEV_SUSPEND, DM_SUSPEND_FLAG);
	if (syscall(SYS_io_setup, 1, &context))
		fail("io_setup");
	/* It returns when all is on its way; the device answers nothing. */
	if (syscall(SYS_io_submit, context, 1, &calls) != 1)
		refused(errno);
	is_held(&buffer, 0, SIZE / page_size);
	take_others(heaps);
	mapper(DM_DEV_SUSPEND, 0);
	if (syscall(SYS_io_getevents, context, 1, 1, &event, NULL) != 1)
		fail("io_getevents");
	if (event.res != (int64_t)SIZE)
		complain("the read ended otherwise than with all bytes");
	look_at_others();
	is_freed();
	close(fd);
}

/*
 * io_uring, one call at a time.
 */

static int ring;
static uint32_t *sq_tail, *sq_mask, *sq_array, *cq_head, *cq_tail, *cq_mask;
static struct io_uring_sqe *sqes;
static struct io_uring_cqe *cqes;

static void *map_ring(size_t size, uint64_t offset)
{
	void *place = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE, ring, offset);

	if (place == MAP_FAILED)
		fail("mmap of a ring");

	return place;
}

static void set_up_ring(void)
{
	struct io_uring_params params = { 0 };
	char *sq, *cq;

	ring = syscall(SYS_io_uring_setup, 1, &params);
	if (ring < 0)
		fail("io_uring_setup");
	sq = map_ring(params.sq_off.array + params.sq_entries * sizeof(uint32_t), IORING_OFF_SQ_RING);
	cq = map_ring(params.cq_off.cqes + params.cq_entries * sizeof(*cqes), IORING_OFF_CQ_RING);
	sqes = map_ring(params.sq_entries * sizeof(*sqes), IORING_OFF_SQES);
	sq_tail = (uint32_t *)(sq + params.sq_off.tail);
	sq_mask = (uint32_t *)(sq + params.sq_off.ring_mask);
	sq_array = (uint32_t *)(sq + params.sq_off.array);
	cq_head = (uint32_t *)(cq + params.cq_off.head);
	cq_tail = (uint32_t *)(cq + params.cq_off.tail);
	cq_mask = (uint32_t *)(cq + params.cq_off.ring_mask);
	cqes = (struct io_uring_cqe *)(cq + params.cq_off.cqes);
}

/* Bytes that were read or written, or a negative errno. */
static int call_ring(uint8_t opcode, int fd, void *bytes, size_t size)
{
	uint32_t tail = *sq_tail;
	uint32_t head = *cq_head;
	int result;

	sqes[tail & *sq_mask] = (struct io_uring_sqe) {
		.opcode = opcode, .fd = fd, .addr = (uintptr_t)bytes, .len = size,
	};
	sq_array[tail & *sq_mask] = tail & *sq_mask;
	__atomic_store_n(sq_tail, tail + 1, __ATOMIC_RELEASE);
	if (syscall(SYS_io_uring_enter, ring, 1, 1, IORING_ENTER_GETEVENTS, NULL, 0) != 1)
		fail("io_uring_enter");
	if (__atomic_load_n(cq_tail, __ATOMIC_ACQUIRE) == head)
		complain("io_uring did not answer");
	result = cqes[head & *cq_mask].res;
	__atomic_store_n(cq_head, head + 1, __ATOMIC_RELEASE);

	return result;
}

static void uring(uint32_t heaps, const char *device)
{
	struct buffer buffer = take(heaps);
	int result;

	set_up_ring();
	result = call_ring(IORING_OP_READ, open_direct(device), buffer.bytes, SIZE);
	if (result < 0)
		refused(-result);
	if ((size_t)result != SIZE)
		complain("io_uring did not read all");
	check_against(device, buffer.bytes);
	give_up(&buffer);
	close(ring);
	puts("read");
}

/* The pages are the ring's from where they are registered on; nobody else has them any more. */
static void fixed(uint32_t heaps, const char *device)
{
	struct buffer buffer = take(heaps);
	struct iovec whole = { buffer.bytes, SIZE };
	int copy = memfd_create("copy", MFD_CLOEXEC);
	unsigned char *bytes;

	set_up_ring();
	if (syscall(SYS_io_uring_register, ring, IORING_REGISTER_BUFFERS, &whole, 1))
		refused(errno);
	is_held(&buffer, 0, SIZE / page_size);
	take_others(heaps);
	if (call_ring(IORING_OP_READ_FIXED, open_direct(device), whole.iov_base, SIZE) != (int)SIZE)
		complain("io_uring did not read all");
	if (call_ring(IORING_OP_WRITE_FIXED, copy, whole.iov_base, SIZE) != (int)SIZE)
		complain("io_uring did not write all");
	bytes = mmap(NULL, SIZE, PROT_READ, MAP_SHARED, copy, 0);
	if (bytes == MAP_FAILED)
		fail("mmap of the copy");
	check_against(device, bytes);
	look_at_others();
	if (syscall(SYS_io_uring_register, ring, IORING_UNREGISTER_BUFFERS, NULL, 0))
		fail("IORING_UNREGISTER_BUFFERS");
	is_freed();
}

int main(int argc, char **argv)
{
	uint32_t heaps = argc > 2 ? strtoul(argv[2], NULL, 0) : 0;

	page_size = sysconf(_SC_PAGESIZE);
	if (argc == 3 && !strcmp(argv[1], "vmsplice"))
		vmsplice_into_pipe(heaps);
	else if (argc == 4 && !strcmp(argv[1], "aio"))
		aio(heaps, argv[3]);
	else if (argc == 4 && !strcmp(argv[1], "fixed"))
		fixed(heaps, argv[3]);
	else if (argc == 4 && !strcmp(argv[1], "uring"))
		uring(heaps, argv[3]);
	else
		complain("usage: pins vmsplice HEAPS | aio HEAPS DEVICE | fixed HEAPS DEVICE | uring HEAPS DEVICE");

	return 0;
}
