// SPDX-License-Identifier: MIT
/* The tutorial's client of /dev/cma_mem: a frame, ten ints written and read back. */
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

struct cmamem_info {
	char *name;
	char is_cache;
	uint32_t id;
	uint32_t offset;
	uint32_t len;
	uint32_t phy_base;
	uint32_t mem_base;
};

#define CMEM_ALLOCATE _IOW('m', 5, int)

#define LENGTH (800 * 480 * 4)

int main(void)
{
	struct cmamem_info region;
	int *frame;
	int fd;
	int i;

	fd = open("/dev/cma_mem", O_RDWR);
	if (fd < 0) {
		perror("open /dev/cma_mem");
		return 1;
	}
	memset(&region, 0, sizeof(region));
	region.len = LENGTH;
	if (ioctl(fd, CMEM_ALLOCATE, &region) < 0) {
		perror("CMEM_ALLOCATE");
		return 1;
	}
	if (region.len != LENGTH || region.offset != 0 || region.mem_base != 0) {
		fprintf(stderr, "len %u, offset %u, mem_base %u\n", region.len, region.offset,
			region.mem_base);
		return 1;
	}

	frame = mmap(NULL, LENGTH, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (frame == MAP_FAILED) {
		perror("mmap");
		return 1;
	}
	for (i = 0; i < 10; i++)
		frame[i] = i;
	for (i = 0; i < 10; i++)
		printf("%d%c", frame[i], i < 9 ? ' ' : '\n');
	/* Its last byte is memory too. */
	((char *)frame)[LENGTH - 1] = 1;

	munmap(frame, LENGTH);
	close(fd);
	return 0;
}
