// SPDX-License-Identifier: MIT
/*
 * What clients of /dev/ion do, on every heap it says it has:
 *
 *   ion-client sizes ROUNDS SIZE...  buffers of these sizes, each so many times
 *   ion-client threads SIZE          for many threads at once, each its own
 *
 * and on the first heap of a type:
 *
 *   ion-client share TYPE            one for another process, over a unix
 *                                    socket, kept until standard input ends
 *
 * Prints a line for each thing that went well, and fails otherwise. Protected
 * memory is the same to all of them but for its mapping, which must fail.
 */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "../../../kernel-modules/include/uapi/dmabuf/ion.h"

enum { MAX_HEAPS = 32, THREADS = 100, TURNS = 4, LENGTH = 64 * 1024 };

static struct ion_heap_data heaps[MAX_HEAPS];
static int ion;
/* The words after the job's name. */
static char **arguments;

static void check(int good, const char *what)
{
	if (good)
		return;
	perror(what);
	exit(1);
}

static unsigned int query(void)
{
	struct ion_heap_query query = { .cnt = MAX_HEAPS, .heaps = (uintptr_t)heaps };

	check(!ioctl(ion, ION_IOC_HEAP_QUERY, &query), "ION_IOC_HEAP_QUERY");
	return query.cnt;
}

static int alloc(const struct ion_heap_data *heap, size_t len)
{
	struct ion_allocation_data data = {
		.len = len,
		.heap_id_mask = 1U << heap->heap_id,
		.flags = ION_FLAG_CACHED,
	};

	check(!ioctl(ion, ION_IOC_ALLOC, &data), heap->name);
	return data.fd;
}

/* NULL for protected memory. */
static unsigned char *map(const struct ion_heap_data *heap, int fd, size_t length)
{
	void *bytes = mmap(NULL, length, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);

	if (heap->type == ION_HEAP_TYPE_PROTECTED) {
		check(bytes == MAP_FAILED && errno == EPERM, "EPERM for protected memory");
		return NULL;
	}
	check(bytes != MAP_FAILED, "mmap");
	return bytes;
}

/* Whether all bytes are the same. */
static int holds(const unsigned char *bytes, size_t length, int value)
{
	return !bytes || (bytes[0] == value && !memcmp(bytes, bytes + 1, length - 1));
}

static void fill(unsigned char *bytes, size_t length, int value)
{
	if (bytes)
		memset(bytes, value, length);
}

static void try_sizes(const struct ion_heap_data *heap)
{
	int rounds = atoi(arguments[0]);

	for (char **size = arguments + 1; *size; size++) {
		for (int round = 0; round < rounds; round++)
			close(alloc(heap, strtoul(*size, NULL, 0)));
		printf("%s %s: %d\n", heap->name, *size, rounds);
	}
}

static pthread_barrier_t together;

struct thread {
	pthread_t thread;
	const struct ion_heap_data *heap;
	unsigned char value;
};

static void *keep_to_itself(void *argument)
{
	const struct thread *thread = argument;
	size_t length = strtoul(arguments[0], NULL, 0);

	pthread_barrier_wait(&together);
	for (int turn = 0; turn < TURNS; turn++) {
		int fd = alloc(thread->heap, length);
		unsigned char *bytes = map(thread->heap, fd, length);

		/* Its mapping keeps it; what has none is kept by its descriptor. */
		if (bytes)
			close(fd);
		check(holds(bytes, length, 0), "memory that is not zero");
		fill(bytes, length, thread->value);
		/* Only when all have written it shows whose memory it is. */
		pthread_barrier_wait(&together);
		check(holds(bytes, length, thread->value), "memory of two threads");
		if (bytes)
			munmap(bytes, length);
		else
			close(fd);
	}
	return NULL;
}

static void try_threads(const struct ion_heap_data *heap)
{
	struct thread threads[THREADS];

	pthread_barrier_init(&together, NULL, THREADS);
	for (int i = 0; i < THREADS; i++) {
		threads[i] = (struct thread){ .heap = heap, .value = i + 1 };
		errno = pthread_create(&threads[i].thread, NULL, keep_to_itself, &threads[i]);
		check(!errno, "pthread_create");
	}
	for (int i = 0; i < THREADS; i++)
		pthread_join(threads[i].thread, NULL);
	pthread_barrier_destroy(&together);
	printf("%s: %d threads\n", heap->name, THREADS);
}

/* A message with a descriptor, of which there is one control message. */
struct message {
	char byte;
	struct iovec data;
	char control[CMSG_SPACE(sizeof(int))] __attribute__((aligned(sizeof(size_t))));
	struct msghdr header;
};

static void prepare(struct message *message)
{
	*message = (struct message){ .byte = 0 };
	message->data = (struct iovec){ &message->byte, 1 };
	message->header = (struct msghdr){
		.msg_iov = &message->data,
		.msg_iovlen = 1,
		.msg_control = message->control,
		.msg_controllen = sizeof(message->control),
	};
}

static void send_fd(int to, int fd)
{
	struct message message;
	struct cmsghdr *control;

	prepare(&message);
	control = CMSG_FIRSTHDR(&message.header);
	control->cmsg_level = SOL_SOCKET;
	control->cmsg_type = SCM_RIGHTS;
	control->cmsg_len = CMSG_LEN(sizeof(fd));
	memcpy(CMSG_DATA(control), &fd, sizeof(fd));
	check(sendmsg(to, &message.header, 0) == 1, "sendmsg");
}

static int receive_fd(int from)
{
	struct message message;
	struct cmsghdr *control;
	int fd;

	prepare(&message);
	check(recvmsg(from, &message.header, 0) == 1, "recvmsg");
	control = CMSG_FIRSTHDR(&message.header);
	check(control && control->cmsg_type == SCM_RIGHTS, "a descriptor");
	memcpy(&fd, CMSG_DATA(control), sizeof(fd));
	return fd;
}

static void import(const struct ion_heap_data *heap, int from)
{
	int fd = receive_fd(from);
	unsigned char *bytes = map(heap, fd, LENGTH);

	check(lseek(fd, 0, SEEK_END) == LENGTH, "the size of what the exporter sent");
	check(holds(bytes, LENGTH, 0x11), "what the exporter wrote");
	fill(bytes, LENGTH, 0x22);
}

static const struct ion_heap_data *of_type(unsigned int type, unsigned int count)
{
	for (unsigned int i = 0; i < count; i++)
		if (heaps[i].type == type)
			return &heaps[i];
	fprintf(stderr, "no heap of type %u\n", type);
	exit(1);
}

static void try_sharing(const struct ion_heap_data *heap)
{
	unsigned char *bytes;
	int ends[2], status, fd;
	pid_t importer;

	check(!socketpair(AF_UNIX, SOCK_STREAM, 0, ends), "socketpair");
	fflush(stdout);
	importer = fork();
	check(importer >= 0, "fork");
	if (!importer) {
		import(heap, ends[1]);
		_exit(0);
	}
	fd = alloc(heap, LENGTH);
	bytes = map(heap, fd, LENGTH);
	fill(bytes, LENGTH, 0x11);
	send_fd(ends[0], fd);
	/* On its way it is the message's alone. */
	if (bytes)
		close(fd);
	check(waitpid(importer, &status, 0) == importer && !status, "the importer");
	check(holds(bytes, LENGTH, 0x22), "what the importer wrote");
	printf("%s, type %u: shared\n", heap->name, heap->type);
	fflush(stdout);
	while (getchar() != EOF)
		;
}

int main(int argc, char **argv)
{
	static const struct {
		const char *name;
		int arguments;
		void (*run)(const struct ion_heap_data *heap);
	} jobs[] = { { "sizes", 2, try_sizes }, { "threads", 1, try_threads } };
	unsigned int count;

	ion = open("/dev/ion", O_RDONLY | O_CLOEXEC);
	check(ion >= 0, "/dev/ion");
	count = query();
	arguments = argv + 2;
	if (argc == 3 && !strcmp(argv[1], "share")) {
		try_sharing(of_type(atoi(argv[2]), count));
		return 0;
	}
	for (size_t job = 0; job < sizeof(jobs) / sizeof(jobs[0]); job++) {
		if (argc < 2 + jobs[job].arguments || strcmp(argv[1], jobs[job].name))
			continue;
		for (unsigned int i = 0; i < count; i++)
			jobs[job].run(&heaps[i]);
		return 0;
	}
	fputs("usage: ion-client sizes ROUNDS SIZE...|threads SIZE|share TYPE\n", stderr);
	return 2;
}
