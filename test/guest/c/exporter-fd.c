// SPDX-License-Identifier: MIT
/* The tutorial's reader: asks /dev/exporter for a descriptor and maps that. */
#include <fcntl.h>
#include <stdio.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

int main(void)
{
	int dmabuf_fd = 0;
	char *text;
	int fd;

	fd = open("/dev/exporter", O_RDONLY);
	if (fd < 0) {
		perror("open /dev/exporter");
		return 1;
	}
	if (ioctl(fd, 0, &dmabuf_fd) < 0) {
		perror("ioctl");
		return 1;
	}
	/* The dma-buf outlives the device it came from. */
	close(fd);

	text = mmap(NULL, 4096, PROT_READ, MAP_SHARED, dmabuf_fd, 0);
	if (text == MAP_FAILED) {
		perror("mmap");
		return 1;
	}
	printf("read from dmabuf: %s\n", text);

	munmap(text, 4096);
	close(dmabuf_fd);
	return 0;
}
