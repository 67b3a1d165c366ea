// SPDX-License-Identifier: MIT
/*
 * A dma-buf whose last descriptor is gone, but whose path somebody has open
 * with O_PATH: its file is freed and used again for other files, while its
 * release operation waits. Asks for a new descriptor then, and ends with 0 if
 * each one was a dma-buf.
 *
 * o-path exporter | cma_mem
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

enum { ROUNDS = 5, FILES = 400 };

struct cmamem_info {
	char *name;
	char is_cache;
	unsigned int id, offset, len, phy_base, mem_base;
};

struct cmem_export {
	unsigned int id, fd_flags;
	int fd;
	unsigned int reserved;
};

#define CMEM_ALLOCATE	_IOW('m', 5, int)
#define CMEM_IOC_EXPORT	_IOWR('m', 0x21, struct cmem_export)

static struct cmem_export export = { .fd_flags = O_RDWR | O_CLOEXEC };

static int get_fd(int device)
{
	int fd = -1;

	if (!export.id)
		return ioctl(device, 0, &fd) ? -1 : fd;
	return ioctl(device, CMEM_IOC_EXPORT, &export) ? -1 : export.fd;
}

static int is_dmabuf(int fd)
{
	char path[64], target[64] = "";

	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	if (readlink(path, target, sizeof(target) - 1) < 0)
		return 0;
	printf("%s\n", target);
	return !strncmp(target, "/dmabuf:", 8);
}

int main(int argc, char **argv)
{
	struct cmamem_info region = { .len = 8192 };
	int files[FILES], strangers = 0, device;

	if (argc > 1 && !strcmp(argv[1], "cma_mem")) {
		device = open("/dev/cma_mem", O_RDWR);
		if (device < 0 || ioctl(device, CMEM_ALLOCATE, &region)) {
			perror("cma_mem");
			return 2;
		}
		export.id = region.id;
	} else {
		device = open("/dev/exporter", O_RDONLY);
		if (device < 0) {
			perror("exporter");
			return 2;
		}
	}

	for (int round = 0; round < ROUNDS; round++) {
		char path[64];
		int fd = get_fd(device), held;

		snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
		held = open(path, O_PATH);
		if (fd < 0 || held < 0) {
			perror("first descriptor");
			return 2;
		}
		close(fd);
		usleep(300000);	/* files are freed a grace period later */
		for (int i = 0; i < FILES; i++)
			files[i] = open("/etc/passwd", O_RDONLY);
		fd = get_fd(device);
		strangers += !is_dmabuf(fd);
		close(fd);
		for (int i = 0; i < FILES; i++)
			close(files[i]);
		close(held);
	}
	return strangers ? 1 : 0;
}
