// SPDX-License-Identifier: MIT
/*
 * Allocates buffers of a mebibyte of a heap until it is refused one, and holds
 * them until its standard input ends: hog HEAP_ID. Prints how many it got and
 * the errno of the last.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <unistd.h>

#include "../../../kernel-modules/include/uapi/dmabuf/ion.h"

#define MEBI	(1 << 20)
#define MOST	8192

int main(int argc, char **argv)
{
	struct rlimit files = { MOST, MOST };
	struct ion_allocation_data data = { .flags = ION_FLAG_CACHED };
	int device = open("/dev/ion", O_RDONLY | O_CLOEXEC);
	unsigned int count = 0;
	char text[64];
	int size;

	/* It needs no memory of its own where there is none any more. */
	if (argc != 2 || device < 0 || setrlimit(RLIMIT_NOFILE, &files) || mlockall(MCL_CURRENT)) {
		perror("hog");
		return 2;
	}
	data.len = MEBI;
	data.heap_id_mask = 1U << atoi(argv[1]);
	while (!ioctl(device, ION_IOC_ALLOC, &data))
		count++;
	size = snprintf(text, sizeof(text), "%u %d\n", count, errno);
	if (write(1, text, size) != size)
		return 2;
	while (read(0, text, sizeof(text)) > 0)
		;

	return 0;
}
