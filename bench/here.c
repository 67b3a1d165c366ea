// SPDX-License-Identifier: MIT
/*
 * What here.ts does with the library, by system calls. For each line on
 * standard input it does that COUNT times and prints the nanoseconds of one:
 * "map BYTES COUNT", "life BYTES COUNT", "fill BYTES COUNT", "copy BYTES COUNT"
 * or "pass DESCRIPTORS COUNT"; "trip DESCRIPTORS COUNT", the same to another
 * process and back; where there is an ION, "ion BYTES COUNT", a life there, and
 * "bracket BYTES COUNT", the two halves of a CPU access.
 */
#define _GNU_SOURCE
#include <dmabuf/ion.h>
#include <fcntl.h>
#include <linux/dma-buf.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define MOST_FDS	253

static void fail(const char *what)
{
	perror(what);
	exit(1);
}

static int new_buffer(size_t size)
{
	int fd = memfd_create("bench", MFD_CLOEXEC);

	if (fd < 0 || ftruncate(fd, size))
		fail("memfd_create");

	return fd;
}

static void map(int fd, size_t size)
{
	void *bytes = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);

	if (bytes == MAP_FAILED || munmap(bytes, size))
		fail("mmap");
}

/* Sealed and with all its pages, as the heap memfd makes them. */
static int memfd_buffer(size_t size)
{
	int fd = memfd_create("", MFD_CLOEXEC | MFD_ALLOW_SEALING);

	if (fd < 0 || fallocate(fd, 0, 0, size) ||
	    fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW))
		fail("memfd_create");

	return fd;
}

static int ion_buffer(size_t size)
{
	static int device = -1;
	struct ion_allocation_data data = {
		.len = size,
		.heap_id_mask = 1,
		.flags = ION_FLAG_CACHED,
	};

	if (device < 0)
		device = open("/dev/ion", O_RDONLY | O_CLOEXEC);
	if (ioctl(device, ION_IOC_ALLOC, &data) < 0)
		fail("ION_IOC_ALLOC");

	return data.fd;
}

static void life(int fd, size_t size)
{
	unsigned char *bytes;

	bytes = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (bytes == MAP_FAILED)
		fail("mmap");
	bytes[0] = 1;
	if (munmap(bytes, size) || close(fd))
		fail("munmap");
}

/* As FdSocket does it: the length of the text and the number of descriptors, then the text. */
static const char text[] = "{\"width\":800,\"height\":480}";

union control {
	struct cmsghdr align;
	char bytes[CMSG_SPACE(MOST_FDS * sizeof(int))];
};

static void send_fds(int socket, const int *fds, uint32_t count)
{
	uint32_t header[2] = { sizeof(text) - 1, count };
	struct iovec parts[2] = {
		{ .iov_base = header, .iov_len = sizeof(header) },
		{ .iov_base = (char *)text, .iov_len = sizeof(text) - 1 },
	};
	union control control;
	struct msghdr message = {
		.msg_iov = parts,
		.msg_iovlen = 2,
		.msg_control = control.bytes,
		.msg_controllen = CMSG_SPACE(count * sizeof(int)),
	};
	struct cmsghdr *rights = CMSG_FIRSTHDR(&message);

	rights->cmsg_level = SOL_SOCKET;
	rights->cmsg_type = SCM_RIGHTS;
	rights->cmsg_len = CMSG_LEN(count * sizeof(int));
	memcpy(CMSG_DATA(rights), fds, count * sizeof(int));
	if (sendmsg(socket, &message, MSG_NOSIGNAL) != sizeof(header) + sizeof(text) - 1)
		fail("sendmsg");
}

/* 0 at the end */
static int receive_fds(int socket, int *fds, uint32_t count)
{
	char bytes[4096];
	struct iovec part = { .iov_base = bytes, .iov_len = sizeof(bytes) };
	union control control;
	struct msghdr message = {
		.msg_iov = &part,
		.msg_iovlen = 1,
		.msg_control = control.bytes,
		.msg_controllen = sizeof(control.bytes),
	};
	struct cmsghdr *rights;
	ssize_t received;

	received = recvmsg(socket, &message, MSG_CMSG_CLOEXEC);
	if (received < 0)
		fail("recvmsg");
	if (received == 0)
		return 0;
	rights = CMSG_FIRSTHDR(&message);
	if (!rights || rights->cmsg_len != CMSG_LEN(count * sizeof(int)))
		fail("descriptors");
	memcpy(fds, CMSG_DATA(rights), count * sizeof(int));

	return 1;
}

static void close_all(const int *fds, uint32_t count)
{
	for (uint32_t i = 0; i < count; i++)
		close(fds[i]);
}

/* There and back again. */
static void pass(const int sockets[2], const int *fds, uint32_t count)
{
	int there[MOST_FDS];
	int back[MOST_FDS];

	send_fds(sockets[0], fds, count);
	receive_fds(sockets[1], there, count);
	send_fds(sockets[1], there, count);
	close_all(there, count);
	receive_fds(sockets[0], back, count);
	close_all(back, count);
}

static double now(void)
{
	struct timespec time;

	clock_gettime(CLOCK_MONOTONIC, &time);

	return time.tv_sec * 1e9 + time.tv_nsec;
}

static double time_map(size_t size, unsigned int count)
{
	int fd = new_buffer(size);
	double start = now();
	double end;

	for (unsigned int i = 0; i < count; i++)
		map(fd, size);
	end = now();
	close(fd);

	return (end - start) / count;
}

static double time_life(int (*make)(size_t size), size_t size, unsigned int count)
{
	double start = now();

	for (unsigned int i = 0; i < count; i++)
		life(make(size), size);

	return (now() - start) / count;
}

static double time_bracket(size_t size, unsigned int count)
{
	int fd = ion_buffer(size);
	struct dma_buf_sync begin = { .flags = DMA_BUF_SYNC_START | DMA_BUF_SYNC_READ };
	struct dma_buf_sync end = { .flags = DMA_BUF_SYNC_END | DMA_BUF_SYNC_READ };
	double start = now();
	double stop;

	for (unsigned int i = 0; i < count; i++)
		if (ioctl(fd, DMA_BUF_IOCTL_SYNC, &begin) || ioctl(fd, DMA_BUF_IOCTL_SYNC, &end))
			fail("DMA_BUF_IOCTL_SYNC");
	stop = now();
	close(fd);

	return (stop - start) / count;
}

/* Bytes of a mapping set, or copied to others of the same. */
static double time_bytes(size_t size, unsigned int count, int copies)
{
	int fd = new_buffer(2 * size);
	unsigned char *bytes = mmap(NULL, 2 * size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	double start;
	double end;

	if (bytes == MAP_FAILED)
		fail("mmap");
	memset(bytes, 1, 2 * size);
	start = now();
	for (unsigned int i = 0; i < count; i++) {
		if (copies)
			memcpy(bytes + size, bytes, size);
		else
			memset(bytes, i, size);
		/* else it would do it once */
		__asm__ volatile("" : : "r"(bytes) : "memory");
	}
	end = now();
	munmap(bytes, 2 * size);
	close(fd);

	return (end - start) / count;
}

static double time_pass(uint32_t fd_count, unsigned int count)
{
	int sockets[2];
	int fds[MOST_FDS];
	double start;
	double end;

	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, sockets))
		fail("socketpair");
	for (uint32_t i = 0; i < fd_count; i++)
		fds[i] = new_buffer(4096);
	start = now();
	for (unsigned int i = 0; i < count; i++)
		pass(sockets, fds, fd_count);
	end = now();
	close_all(fds, fd_count);
	close_all(sockets, 2);

	return (end - start) / count;
}

static void echo(int socket, uint32_t count)
{
	int fds[MOST_FDS];

	while (receive_fds(socket, fds, count)) {
		send_fds(socket, fds, count);
		close_all(fds, count);
	}
}

static double time_trip(uint32_t fd_count, unsigned int count)
{
	int sockets[2];
	int fds[MOST_FDS];
	int back[MOST_FDS];
	double start;
	double end;
	pid_t child;

	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, sockets))
		fail("socketpair");
	child = fork();
	if (child < 0)
		fail("fork");
	if (child == 0) {
		close(sockets[0]);
		echo(sockets[1], fd_count);
		_exit(0);
	}
	close(sockets[1]);
	for (uint32_t i = 0; i < fd_count; i++)
		fds[i] = new_buffer(4096);
	start = now();
	for (unsigned int i = 0; i < count; i++) {
		send_fds(sockets[0], fds, fd_count);
		receive_fds(sockets[0], back, fd_count);
		close_all(back, fd_count);
	}
	end = now();
	close_all(fds, fd_count);
	close(sockets[0]);
	waitpid(child, NULL, 0);

	return (end - start) / count;
}

int main(void)
{
	char what[8];
	unsigned long argument;
	unsigned int count;

	while (scanf("%7s %lu %u", what, &argument, &count) == 3) {
		if (!strcmp(what, "map"))
			printf("%.1f\n", time_map(argument, count));
		else if (!strcmp(what, "life"))
			printf("%.1f\n", time_life(memfd_buffer, argument, count));
		else if (!strcmp(what, "ion"))
			printf("%.1f\n", time_life(ion_buffer, argument, count));
		else if (!strcmp(what, "bracket"))
			printf("%.1f\n", time_bracket(argument, count));
		else if (!strcmp(what, "fill") || !strcmp(what, "copy"))
			printf("%.1f\n", time_bytes(argument, count, what[0] == 'c'));
		else if (!strcmp(what, "pass") && argument <= MOST_FDS)
			printf("%.1f\n", time_pass(argument, count));
		else if (!strcmp(what, "trip") && argument <= MOST_FDS)
			printf("%.1f\n", time_trip(argument, count));
		else
			return 1;
		fflush(stdout);
	}

	return 0;
}
