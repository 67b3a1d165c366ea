// SPDX-License-Identifier: MIT
/*
 * What a client of the handle interface of ION did, from open to release, with
 * the kernel's headers of that age spelled out: it knows nothing of us.
 *
 *   ion-flow HEAP_MASK FLAGS [first]
 *
 * One process allocates, shares and fills a buffer, another imports, checks and
 * answers. first: the forms that Qualcomm's first kernels had (32 bit only).
 * Ends with 0, or says what went wrong.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

typedef int ion_user_handle_t;

struct ion_allocation_data {
	size_t len;
	size_t align;
	unsigned int heap_id_mask;
	unsigned int flags;
	ion_user_handle_t handle;
};

struct ion_first_allocation_data {
	size_t len;
	size_t align;
	unsigned int flags;
	ion_user_handle_t handle;
};

struct ion_fd_data {
	ion_user_handle_t handle;
	int fd;
};

struct ion_handle_data {
	ion_user_handle_t handle;
};

struct ion_flush_data {
	ion_user_handle_t handle;
	int fd;
	void *vaddr;
	unsigned int offset;
	unsigned int length;
};

#define ION_IOC_ALLOC		_IOWR('I', 0, struct ion_allocation_data)
#define ION_IOC_FREE		_IOWR('I', 1, struct ion_handle_data)
#define ION_IOC_MAP		_IOWR('I', 2, struct ion_fd_data)
#define ION_IOC_SHARE		_IOWR('I', 4, struct ion_fd_data)
#define ION_IOC_IMPORT		_IOWR('I', 5, struct ion_fd_data)
#define ION_IOC_CLEAN_CACHES	_IOWR('M', 0, struct ion_flush_data)
#define ION_IOC_INV_CACHES	_IOWR('M', 1, struct ion_flush_data)

#define ION_FIRST_IOC_ALLOC	_IOWR('I', 0, struct ion_first_allocation_data)
#define ION_FIRST_IOC_IMPORT	_IOWR('I', 5, int)
#define ION_FIRST_IOC_CLEAN	_IOWR('I', 7, struct ion_flush_data)
#define ION_FIRST_IOC_INV	_IOWR('I', 8, struct ion_flush_data)

#define PAGES	5

static const char *who = "exporter";
static bool first;
static size_t size;

static void fail(const char *what)
{
	fprintf(stderr, "%s: %s: %s\n", who, what, strerror(errno));
	exit(1);
}

static int must(const char *what, int result)
{
	if (result < 0)
		fail(what);
	return result;
}

static int share(int ion, int handle, unsigned long request)
{
	struct ion_fd_data data = { .handle = handle };

	must("SHARE", ioctl(ion, request, &data));
	return data.fd;
}

static unsigned char *map(int fd)
{
	void *address = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);

	if (address == MAP_FAILED)
		fail("mmap");
	return address;
}

static void flush(int ion, int handle, void *address, bool clean)
{
	struct ion_flush_data data = { .handle = handle, .vaddr = address, .length = size };
	unsigned long request = clean ? ION_IOC_CLEAN_CACHES : ION_IOC_INV_CACHES;

	if (first)
		request = clean ? ION_FIRST_IOC_CLEAN : ION_FIRST_IOC_INV;
	must("the caches", ioctl(ion, request, &data));
}

static void release(int ion, int handle, int fd, void *address)
{
	struct ion_handle_data data = { .handle = handle };

	must("munmap", munmap(address, size));
	must("close", close(fd));
	must("FREE", ioctl(ion, ION_IOC_FREE, &data));
	if (ioctl(ion, ION_IOC_FREE, &data) == 0 || errno != EINVAL)
		fail("FREE once more");
	must("close the device", close(ion));
}

static void check(const unsigned char *address, unsigned char expected)
{
	for (size_t i = 0; i < size; i++)
		if (address[i] != expected) {
			fprintf(stderr, "%s: byte %zu is %02x, not %02x\n", who, i, address[i], expected);
			exit(1);
		}
}

static void send_fd(int socket, int fd)
{
	char control[CMSG_SPACE(sizeof(fd))] = "";
	struct iovec byte = { .iov_base = "", .iov_len = 1 };
	struct msghdr message = { .msg_iov = &byte, .msg_iovlen = 1, .msg_control = control,
				  .msg_controllen = sizeof(control) };
	struct cmsghdr *header = CMSG_FIRSTHDR(&message);

	header->cmsg_level = SOL_SOCKET;
	header->cmsg_type = SCM_RIGHTS;
	header->cmsg_len = CMSG_LEN(sizeof(fd));
	memcpy(CMSG_DATA(header), &fd, sizeof(fd));
	must("sendmsg", sendmsg(socket, &message, 0));
}

static int receive_fd(int socket)
{
	char control[CMSG_SPACE(sizeof(int))] = "", got;
	struct iovec byte = { .iov_base = &got, .iov_len = 1 };
	struct msghdr message = { .msg_iov = &byte, .msg_iovlen = 1, .msg_control = control,
				  .msg_controllen = sizeof(control) };
	struct cmsghdr *header;
	int fd;

	must("recvmsg", recvmsg(socket, &message, 0));
	header = CMSG_FIRSTHDR(&message);
	if (!header)
		fail("no descriptor came");
	memcpy(&fd, CMSG_DATA(header), sizeof(fd));
	return fd;
}

static int import(int ion, int fd)
{
	struct ion_fd_data data = { .fd = fd };

	/* The number says int; everybody passed this. */
	must("IMPORT", ioctl(ion, first ? ION_FIRST_IOC_IMPORT : ION_IOC_IMPORT, &data));
	return data.handle;
}

static int importer(int socket)
{
	int ion, fd, handle, mine;
	unsigned char *address;

	who = "importer";
	ion = must("/dev/ion", open("/dev/ion", O_RDONLY));
	fd = receive_fd(socket);
	handle = import(ion, fd);
	close(fd);
	mine = share(ion, handle, ION_IOC_MAP);
	address = map(mine);
	flush(ion, handle, address, false);
	check(address, 0x5a);
	memset(address, 0xa5, size);
	flush(ion, handle, address, true);
	release(ion, handle, mine, address);
	return 0;
}

static int allocate(int ion, unsigned int mask, unsigned int flags)
{
	struct ion_allocation_data data = { .len = size, .align = sysconf(_SC_PAGESIZE),
					    .heap_id_mask = mask, .flags = flags };
	struct ion_first_allocation_data old = { .len = data.len, .align = data.align,
						 .flags = mask | flags };

	if (!first) {
		must("ALLOC", ioctl(ion, ION_IOC_ALLOC, &data));
		return data.handle;
	}
	must("ALLOC", ioctl(ion, ION_FIRST_IOC_ALLOC, &old));
	return old.handle;
}

int main(int argc, char **argv)
{
	int sockets[2], ion, handle, fd, status;
	unsigned char *address;
	pid_t child;

	if (argc < 3) {
		fprintf(stderr, "usage: ion-flow HEAP_MASK FLAGS [first]\n");
		return 2;
	}
	first = argc > 3;
	size = PAGES * sysconf(_SC_PAGESIZE);
	must("socketpair", socketpair(AF_UNIX, SOCK_SEQPACKET, 0, sockets));
	child = must("fork", fork());
	if (!child) {
		close(sockets[0]);
		return importer(sockets[1]);
	}
	close(sockets[1]);

	ion = must("/dev/ion", open("/dev/ion", O_RDONLY));
	handle = allocate(ion, strtoul(argv[1], NULL, 0), strtoul(argv[2], NULL, 0));
	fd = share(ion, handle, ION_IOC_SHARE);
	address = map(fd);
	check(address, 0);
	memset(address, 0x5a, size);
	flush(ion, handle, address, true);
	send_fd(sockets[0], fd);
	must("waitpid", waitpid(child, &status, 0));
	if (!WIFEXITED(status) || WEXITSTATUS(status)) {
		fprintf(stderr, "the importer failed\n");
		return 1;
	}
	flush(ion, handle, address, false);
	check(address, 0xa5);
	release(ion, handle, fd, address);
	return 0;
}
