// SPDX-License-Identifier: MIT
/*
 * The tutorial's client of /dev/ion, which never sets heap_id_mask: it passes
 * whatever was on the stack. ignore_heap_mask=1 makes such programs work.
 */
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

struct ion_allocation_data {
	uint64_t len;
	uint32_t heap_id_mask;
	uint32_t flags;
	uint32_t fd;
	uint32_t unused;
};

#define ION_IOC_ALLOC _IOWR('I', 0, struct ion_allocation_data)

#define LENGTH (3 * 4096)

static int allocate(int ion, uint32_t garbage)
{
	struct ion_allocation_data data;

	/* The stack of a program that ran for a while. */
	memset(&data, 0xa5, sizeof(data));
	data.heap_id_mask = garbage;
	data.len = LENGTH;
	data.flags = 0;
	if (ioctl(ion, ION_IOC_ALLOC, &data) < 0) {
		perror("ION_IOC_ALLOC");
		return -1;
	}
	return data.fd;
}

static int write_and_read(int dmabuf_fd)
{
	unsigned char *bytes;
	unsigned int i;

	bytes = mmap(NULL, LENGTH, PROT_READ | PROT_WRITE, MAP_SHARED, dmabuf_fd, 0);
	if (bytes == MAP_FAILED) {
		perror("mmap");
		return -1;
	}
	for (i = 0; i < LENGTH; i++) {
		if (bytes[i]) {
			fprintf(stderr, "byte %u is not zero\n", i);
			return -1;
		}
	}
	for (i = 0; i < LENGTH; i++)
		bytes[i] = i * 7;
	munmap(bytes, LENGTH);

	bytes = mmap(NULL, LENGTH, PROT_READ, MAP_SHARED, dmabuf_fd, 0);
	if (bytes == MAP_FAILED) {
		perror("mmap");
		return -1;
	}
	for (i = 0; i < LENGTH; i++) {
		if (bytes[i] != (unsigned char)(i * 7)) {
			fprintf(stderr, "byte %u was lost\n", i);
			return -1;
		}
	}
	munmap(bytes, LENGTH);
	return 0;
}

int main(void)
{
	static const uint32_t masks[] = { 0, 0x20000000, 0xa5a5a5a4, 0xffffffff };
	unsigned int i;
	int dmabuf_fd;
	int ion;

	ion = open("/dev/ion", O_RDWR);
	if (ion < 0) {
		perror("open /dev/ion");
		return 1;
	}
	for (i = 0; i < sizeof(masks) / sizeof(masks[0]); i++) {
		dmabuf_fd = allocate(ion, masks[i]);
		if (dmabuf_fd < 0 || write_and_read(dmabuf_fd))
			return 1;
		close(dmabuf_fd);
		printf("heap mask 0x%08x: %d bytes written and read\n", masks[i], LENGTH);
	}
	close(ion);
	return 0;
}
