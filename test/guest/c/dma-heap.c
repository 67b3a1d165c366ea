// SPDX-License-Identifier: MIT
/*
 * A client of dma-heaps that knows the kernel's headers and nothing of ours:
 * allocates from the heap at PATH, writes through one mapping, reads through
 * another. Prints the size, how many bytes were zero, and how many right.
 */
#include <fcntl.h>
#include <linux/dma-buf.h>
#include <linux/dma-heap.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

enum { LENGTH = 300001 };

static void check(int good, const char *what)
{
	if (good)
		return;
	perror(what);
	exit(1);
}

static unsigned char *begin(int fd, int prot, __u64 access)
{
	struct dma_buf_sync sync = { .flags = DMA_BUF_SYNC_START | access };
	void *bytes = mmap(NULL, LENGTH, prot, MAP_SHARED, fd, 0);

	check(bytes != MAP_FAILED, "mmap");
	check(!ioctl(fd, DMA_BUF_IOCTL_SYNC, &sync), "DMA_BUF_SYNC_START");
	return bytes;
}

static void end(int fd, unsigned char *bytes, __u64 access)
{
	struct dma_buf_sync sync = { .flags = DMA_BUF_SYNC_END | access };

	check(!ioctl(fd, DMA_BUF_IOCTL_SYNC, &sync), "DMA_BUF_SYNC_END");
	munmap(bytes, LENGTH);
}

int main(int argc, char **argv)
{
	struct dma_heap_allocation_data data = { .len = LENGTH, .fd_flags = O_RDWR | O_CLOEXEC };
	int zero = 0, right = 0, heap, fd;
	unsigned char *bytes;

	heap = open(argc > 1 ? argv[1] : "/dev/dma_heap/system", O_RDONLY | O_CLOEXEC);
	check(heap >= 0, "open");
	check(!ioctl(heap, DMA_HEAP_IOCTL_ALLOC, &data), "DMA_HEAP_IOCTL_ALLOC");
	close(heap);
	fd = data.fd;

	bytes = begin(fd, PROT_READ | PROT_WRITE, DMA_BUF_SYNC_RW);
	for (int i = 0; i < LENGTH; i++) {
		zero += !bytes[i];
		bytes[i] = i * 31;
	}
	end(fd, bytes, DMA_BUF_SYNC_RW);

	bytes = begin(fd, PROT_READ, DMA_BUF_SYNC_READ);
	for (int i = 0; i < LENGTH; i++)
		right += bytes[i] == (unsigned char)(i * 31);
	end(fd, bytes, DMA_BUF_SYNC_READ);

	printf("%lld %d %d\n", (long long)lseek(fd, 0, SEEK_END), zero, right);
	return 0;
}
