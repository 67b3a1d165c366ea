// SPDX-License-Identifier: MIT
/*
 * Captures one frame from a V4L2 device straight into the dma-bufs on
 * descriptors 3 and up (V4L2_MEMORY_DMABUF), as many as it is told:
 * v4l2-capture DEVICE COUNT. Asks for 320x180 RGB24. Prints a line when the
 * driver has the buffers, which it keeps until standard input ends, and then
 * the width, height, bytes a line and bytes of the frame, and its buffer. With
 * one more word it captures none: vivid writes into its buffers by the CPU,
 * whether it may or not.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/dma-buf.h>
#include <linux/videodev2.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#define FIRST_FD 3

static int fail(const char *what)
{
	fprintf(stderr, "%s: %s\n", what, strerror(errno));
	return 1;
}

/* A bracket of the CPU's while the driver has the buffer, mapped into the kernel. */
static int touch(int fd)
{
	struct dma_buf_sync sync = { .flags = DMA_BUF_SYNC_START | DMA_BUF_SYNC_READ };

	if (ioctl(fd, DMA_BUF_IOCTL_SYNC, &sync) < 0)
		return -1;
	sync.flags = DMA_BUF_SYNC_END | DMA_BUF_SYNC_READ;
	return ioctl(fd, DMA_BUF_IOCTL_SYNC, &sync);
}

int main(int argc, char **argv)
{
	struct v4l2_format format = { .type = V4L2_BUF_TYPE_VIDEO_CAPTURE };
	struct v4l2_requestbuffers request = {
		.type = V4L2_BUF_TYPE_VIDEO_CAPTURE,
		.memory = V4L2_MEMORY_DMABUF,
	};
	enum v4l2_buf_type type = V4L2_BUF_TYPE_VIDEO_CAPTURE;
	struct v4l2_buffer buffer;
	struct pollfd ready = { .events = POLLIN };
	unsigned int count;
	int camera;

	if (argc != 3 && argc != 4)
		return 2;
	count = atoi(argv[2]);
	camera = open(argv[1], O_RDWR | O_CLOEXEC);
	if (camera < 0)
		return fail("open");

	format.fmt.pix.width = 320;
	format.fmt.pix.height = 180;
	format.fmt.pix.pixelformat = V4L2_PIX_FMT_RGB24;
	format.fmt.pix.field = V4L2_FIELD_NONE;
	if (ioctl(camera, VIDIOC_S_FMT, &format) < 0)
		return fail("VIDIOC_S_FMT");
	request.count = count;
	if (ioctl(camera, VIDIOC_REQBUFS, &request) < 0)
		return fail("VIDIOC_REQBUFS");

	for (unsigned int i = 0; i < count; i++) {
		memset(&buffer, 0, sizeof(buffer));
		buffer.type = type;
		buffer.memory = V4L2_MEMORY_DMABUF;
		buffer.index = i;
		buffer.m.fd = FIRST_FD + i;
		if (ioctl(camera, VIDIOC_QBUF, &buffer) < 0)
			return fail("VIDIOC_QBUF");
		if (touch(FIRST_FD + i) < 0)
			return fail("DMA_BUF_IOCTL_SYNC");
	}
	puts("queued");
	fflush(stdout);
	while (getchar() != EOF)
		;
	if (argc == 4)
		return 0;
	if (ioctl(camera, VIDIOC_STREAMON, &type) < 0)
		return fail("VIDIOC_STREAMON");

	ready.fd = camera;
	if (poll(&ready, 1, 10000) != 1)
		return fail("no frame came");
	memset(&buffer, 0, sizeof(buffer));
	buffer.type = type;
	buffer.memory = V4L2_MEMORY_DMABUF;
	if (ioctl(camera, VIDIOC_DQBUF, &buffer) < 0)
		return fail("VIDIOC_DQBUF");
	if (ioctl(camera, VIDIOC_STREAMOFF, &type) < 0)
		return fail("VIDIOC_STREAMOFF");

	printf("%u %u %u %u %u\n", format.fmt.pix.width, format.fmt.pix.height,
	       format.fmt.pix.bytesperline, buffer.bytesused, buffer.index);
	return 0;
}
