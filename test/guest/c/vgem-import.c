// SPDX-License-Identifier: MIT
/*
 * Imports the dma-buf on descriptor 3 into the vgem driver (DRM PRIME), which
 * up to 6.12 maps it for a device, and meanwhile does what the CPU may do:
 * brackets of cache sync, and poll, which has to wait while a fence of the
 * driver is attached. Prints the size and the inode of what the driver exports
 * again, and whether it wrote through the driver's own map, and holds on to it
 * until its standard input ends: vgem-import CARD.
 * With one more word, protected, the buffer is one that it cannot write to; with
 * map it writes through the driver's own map where the driver has one.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/dma-buf.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "drm.h"

#define VGEM_FENCE_WRITE	1

static int fail(const char *what)
{
	perror(what);
	return 1;
}

static int sync_cache(int fd, __u64 flags)
{
	struct dma_buf_sync sync = { .flags = flags };

	return ioctl(fd, DMA_BUF_IOCTL_SYNC, &sync);
}

static int is_ready(int fd, short events)
{
	struct pollfd p = { .fd = fd, .events = events };

	return poll(&p, 1, 0) == 1 && p.revents == events;
}

/* While a device writes nobody reads; when it is done everybody may. */
static int check_fence(int card, int handle, int fd)
{
	struct drm_vgem_fence_attach attach = { .handle = handle, .flags = VGEM_FENCE_WRITE };
	struct drm_vgem_fence_signal signal = { 0 };

	if (!is_ready(fd, POLLIN) || !is_ready(fd, POLLOUT))
		return fail("not ready without a fence");
	if (ioctl(card, DRM_IOCTL_VGEM_FENCE_ATTACH, &attach) < 0)
		return fail("DRM_IOCTL_VGEM_FENCE_ATTACH");
	if (is_ready(fd, POLLIN) || is_ready(fd, POLLOUT))
		return fail("ready in spite of a fence");
	signal.fence = attach.out_fence;
	if (ioctl(card, DRM_IOCTL_VGEM_FENCE_SIGNAL, &signal) < 0)
		return fail("DRM_IOCTL_VGEM_FENCE_SIGNAL");
	if (!is_ready(fd, POLLIN) || !is_ready(fd, POLLOUT))
		return fail("not ready after the fence");
	return 0;
}

static void *mmap_buffer(int fd, off_t offset, off_t size)
{
	return mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, offset);
}

/* Some releases of 5.10 have a map of their own of what they import; later lines refuse that. */
static int has_own_map(int card, int handle, off_t *offset)
{
	struct drm_mode_map_dumb map = { .handle = handle };

	if (ioctl(card, DRM_IOCTL_MODE_MAP_DUMB, &map) < 0)
		return 0;
	*offset = map.offset;
	return 1;
}

int main(int argc, char **argv)
{
	struct drm_prime_handle import = { .fd = 3 };
	struct drm_prime_handle export = { .flags = O_CLOEXEC | O_RDWR };
	struct drm_gem_close done = { 0 };
	unsigned char *bytes;
	int is_protected = argc > 2 && !strcmp(argv[2], "protected");
	int by_driver = argc > 2 && !strcmp(argv[2], "map");
	struct stat status;
	off_t offset = 0;
	off_t size;
	int card;

	card = open(argc > 1 ? argv[1] : "/dev/dri/card0", O_RDWR | O_CLOEXEC);
	if (card < 0)
		return fail("open the card");
	if (ioctl(card, DRM_IOCTL_PRIME_FD_TO_HANDLE, &import) < 0)
		return fail("DRM_IOCTL_PRIME_FD_TO_HANDLE");
	if (check_fence(card, import.handle, 3))
		return 1;

	/* From here on only the driver refers to the buffer. */
	close(3);
	export.handle = import.handle;
	if (ioctl(card, DRM_IOCTL_PRIME_HANDLE_TO_FD, &export) < 0)
		return fail("DRM_IOCTL_PRIME_HANDLE_TO_FD");
	if (fstat(export.fd, &status) < 0)
		return fail("fstat");
	size = lseek(export.fd, 0, SEEK_END);

	by_driver = by_driver && has_own_map(card, import.handle, &offset);
	bytes = mmap_buffer(by_driver ? card : export.fd, offset, size);
	if (is_protected ? bytes != MAP_FAILED || errno != EPERM : bytes == MAP_FAILED)
		return fail("mmap");
	if (sync_cache(export.fd, DMA_BUF_SYNC_START | DMA_BUF_SYNC_WRITE) < 0)
		return fail("the start of a bracket");
	for (off_t i = 0; !is_protected && i < size; i++)
		bytes[i] = i * 31;
	if (sync_cache(export.fd, DMA_BUF_SYNC_END | DMA_BUF_SYNC_WRITE) < 0)
		return fail("the end of a bracket");
	if (!is_protected)
		munmap(bytes, size);
	printf("%lld %llu %d\n", (long long)size, (unsigned long long)status.st_ino, by_driver);
	fflush(stdout);
	while (getchar() != EOF)
		;

	done.handle = import.handle;
	if (ioctl(card, DRM_IOCTL_GEM_CLOSE, &done) < 0)
		return fail("DRM_IOCTL_GEM_CLOSE");
	return 0;
}
