// SPDX-License-Identifier: MIT
/* The tutorial's other reader: maps /dev/exporter itself. */
#include <fcntl.h>
#include <stdio.h>
#include <sys/mman.h>
#include <unistd.h>

int main(void)
{
	char *text;
	int fd;

	fd = open("/dev/exporter", O_RDWR);
	if (fd < 0) {
		perror("open /dev/exporter");
		return 1;
	}
	text = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (text == MAP_FAILED) {
		perror("mmap");
		return 1;
	}
	printf("read from device: %s\n", text);

	munmap(text, 4096);
	close(fd);
	return 0;
}
