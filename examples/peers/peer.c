// SPDX-License-Identifier: MIT
/*
 * A peer of an FdSocket, in C alone: peer PATH [listen]
 *
 * Answers each picture it is sent with its negative, in memory of its own, and
 * each other message with that message. docs/sockets.md has the format.
 *
 *     gcc -O2 -o peer examples/peers/peer.c
 */
#define _GNU_SOURCE
#include <endian.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

enum { JSON, BYTES, V8, RELEASE };

#define MOST_FDS 253
#define MOST_BYTES (1 << 20)

struct header {
	uint32_t length; /* of the body, in bytes; little-endian, as all of it */
	uint16_t fds;
	uint8_t kind;
	uint8_t lent;
};

struct message {
	struct header header;
	char body[MOST_BYTES + 1];
	int fds[MOST_FDS];
};

static void fail(const char *what)
{
	perror(what);
	exit(1);
}

static void broken(const char *what)
{
	fprintf(stderr, "%s\n", what);
	exit(1);
}

static void read_all(int peer, void *bytes, size_t count)
{
	if (count > 0 && recv(peer, bytes, count, MSG_WAITALL) != (ssize_t)count)
		broken("the peer has closed in the middle of a message");
}

/* 0 at the end */
static int receive(int peer, struct message *message)
{
	union {
		char bytes[CMSG_SPACE(MOST_FDS * sizeof(int))];
		struct cmsghdr aligned;
	} control;
	struct iovec part = { .iov_base = &message->header, .iov_len = sizeof(message->header) };
	struct msghdr call = {
		.msg_iov = &part,
		.msg_iovlen = 1,
		.msg_control = control.bytes,
		.msg_controllen = sizeof(control.bytes),
	};
	const struct cmsghdr *rights;
	ssize_t count;
	size_t came = 0;

	/* The descriptors come with the first byte. */
	count = recvmsg(peer, &call, MSG_CMSG_CLOEXEC);
	if (count < 0)
		fail("recvmsg");
	if (count == 0)
		return 0;
	if (call.msg_flags & MSG_CTRUNC)
		broken("descriptors were lost: this process has none left");
	rights = CMSG_FIRSTHDR(&call);
	if (rights && rights->cmsg_level == SOL_SOCKET && rights->cmsg_type == SCM_RIGHTS) {
		came = (rights->cmsg_len - CMSG_LEN(0)) / sizeof(int);
		memcpy(message->fds, CMSG_DATA(rights), came * sizeof(int));
	}
	read_all(peer, (char *)&message->header + count, sizeof(message->header) - count);
	message->header.length = le32toh(message->header.length);
	message->header.fds = le16toh(message->header.fds);
	if (message->header.fds != came)
		broken("descriptors are missing");
	if (message->header.lent && message->header.length < sizeof(uint32_t))
		broken("a loan has no number");
	if (message->header.length > MOST_BYTES)
		broken("the message is too long");
	read_all(peer, message->body, message->header.length);
	message->body[message->header.length] = 0;
	return 1;
}

static void send_message(int peer, int kind, const void *body, size_t length, const int *fds, size_t fd_count)
{
	struct header header = { .length = htole32(length), .fds = htole16(fd_count), .kind = kind };
	union {
		char bytes[CMSG_SPACE(MOST_FDS * sizeof(int))];
		struct cmsghdr aligned;
	} control = { 0 };
	struct iovec part = { .iov_base = &header, .iov_len = sizeof(header) };
	struct msghdr call = { .msg_iov = &part, .msg_iovlen = 1 };
	struct cmsghdr *rights;

	if (fd_count > 0) {
		call.msg_control = control.bytes;
		call.msg_controllen = CMSG_SPACE(fd_count * sizeof(int));
		rights = CMSG_FIRSTHDR(&call);
		rights->cmsg_level = SOL_SOCKET;
		rights->cmsg_type = SCM_RIGHTS;
		rights->cmsg_len = CMSG_LEN(fd_count * sizeof(int));
		memcpy(CMSG_DATA(rights), fds, fd_count * sizeof(int));
	}
	if (sendmsg(peer, &call, MSG_NOSIGNAL) != sizeof(header))
		fail("sendmsg");
	/* A socket that blocks takes all of it. */
	if (send(peer, body, length, MSG_NOSIGNAL) != (ssize_t)length)
		fail("send");
}

/* A new buffer, which is sealed: nobody can cut it off while another has it mapped. */
static int negative(int fd)
{
	const off_t size = lseek(fd, 0, SEEK_END);
	const int made = memfd_create("negative", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	const unsigned char *theirs;
	unsigned char *ours;

	if (size < 0 || made < 0 || ftruncate(made, size) || fcntl(made, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW))
		fail("memfd_create");
	theirs = mmap(NULL, size, PROT_READ, MAP_SHARED, fd, 0);
	ours = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, made, 0);
	if (theirs == MAP_FAILED || ours == MAP_FAILED)
		fail("mmap");
	for (off_t i = 0; i < size; i++)
		ours[i] = ~theirs[i];
	munmap((void *)theirs, size);
	munmap(ours, size);
	return made;
}

static void serve(int peer)
{
	static struct message message;
	static char answer[MOST_BYTES + 64];

	while (receive(peer, &message)) {
		const size_t loan_bytes = message.header.lent ? sizeof(uint32_t) : 0;
		const int is_json = message.header.kind == JSON;
		int length;

		for (size_t i = 0; i < message.header.fds; i++) {
			const int made = negative(message.fds[i]);

			close(message.fds[i]);
			message.fds[i] = made;
		}
		if (message.header.lent)
			send_message(peer, RELEASE, message.body, sizeof(uint32_t), NULL, 0);
		length = snprintf(answer, sizeof(answer), "{\"peer\":\"C\",\"value\":%s}",
				  is_json ? message.body + loan_bytes : "null");
		send_message(peer, JSON, answer, length, message.fds, message.header.fds);
		for (size_t i = 0; i < message.header.fds; i++)
			close(message.fds[i]);
	}
}

int main(int argc, char **argv)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	const int own = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	int peer = own;

	if (argc < 2 || strlen(argv[1]) >= sizeof(address.sun_path))
		broken("usage: peer PATH [listen]");
	strcpy(address.sun_path, argv[1]);
	if (argc == 2) {
		if (connect(own, (struct sockaddr *)&address, sizeof(address)))
			fail("connect");
	} else {
		if (bind(own, (struct sockaddr *)&address, sizeof(address)) || listen(own, 1))
			fail("listen");
		peer = accept(own, NULL, NULL);
		unlink(address.sun_path);
	}
	serve(peer);
	return 0;
}
