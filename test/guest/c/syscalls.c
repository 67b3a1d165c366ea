// SPDX-License-Identifier: MIT
/*
 * Makes the system calls it is told, so that tests can say what no library
 * would: a line in, a line out. Numbers are decimal or 0x…, bytes are hex.
 *
 *   open PATH FLAGS                    close FD
 *   ioctl FD REQUEST BYTES             calls with a pointer to BYTES, which come back
 *   ioctlp FD REQUEST ADDRESS          calls with the pointer given
 *   mmap LENGTH PROT FLAGS FD OFFSET   mprotect ADDRESS LENGTH PROT
 *   mremap ADDRESS OLD NEW             munmap ADDRESS LENGTH
 *   peek ADDRESS LENGTH                poke ADDRESS BYTES    EFAULT where it would kill
 *   lseek FD OFFSET WHENCE             poll FD EVENTS        the result is revents
 *   setuid ID                          user, group, and no others
 *   nofile N                           RLIMIT_NOFILE
 *   take PID FD                        a copy of another process's descriptor
 *
 * The answer: result, errno (0 where it went well), bytes.
 *
 *   session        a new process does all that follows; the answer is its id
 *   end            and here it ends; the answer comes when it is gone
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <poll.h>
#include <setjmp.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

/* The largest page there is. */
#define MAX_BYTES 65536
#define MAX_WORDS 7

static unsigned char bytes[MAX_BYTES];
static size_t count;
static sigjmp_buf fault;

static void on_fault(int signal)
{
	(void)signal;
	siglongjmp(fault, 1);
}

/* For ioctl. What is behind the bytes the test gave is of no use to a call that reads too far. */
static void parse_bytes(const char *hex)
{
	memset(bytes, 0xff, sizeof(bytes));
	count = hex ? strlen(hex) / 2 : 0;
	if (count > MAX_BYTES)
		exit(2);
	for (size_t i = 0; i < count; i++) {
		unsigned int byte;

		if (sscanf(hex + 2 * i, "%2x", &byte) != 1)
			exit(2);
		bytes[i] = byte;
	}
}

static long peek(const unsigned char *address, size_t length)
{
	if (length > MAX_BYTES)
		exit(2);
	if (sigsetjmp(fault, 1)) {
		count = 0;
		errno = EFAULT;
		return -1;
	}
	memcpy(bytes, address, length);
	count = length;
	return 0;
}

static long poke(unsigned char *address)
{
	size_t length = count;

	count = 0;
	if (sigsetjmp(fault, 1)) {
		errno = EFAULT;
		return -1;
	}
	memcpy(address, bytes, length);
	return 0;
}

static long become(uid_t id)
{
	if (setgroups(0, NULL) || setresgid(id, id, id))
		return -1;
	return setresuid(id, id, id);
}

static long limit_files(rlim_t limit)
{
	struct rlimit files = { .rlim_cur = limit, .rlim_max = 4096 };

	return setrlimit(RLIMIT_NOFILE, &files);
}

static long poll_one(int fd, short events)
{
	struct pollfd p = { .fd = fd, .events = events };

	return poll(&p, 1, 1000) < 0 ? -1 : p.revents;
}

static long take(pid_t pid, int fd)
{
	int process = syscall(SYS_pidfd_open, pid, 0);
	long result;
	int error;

	if (process < 0)
		return -1;
	result = syscall(SYS_pidfd_getfd, process, fd, 0);
	error = errno;
	close(process);
	errno = error;
	return result;
}

/* Nothing is buffered that is not for the child: a line waits for its answer. */
static long begin_session(void)
{
	pid_t pid = fork();

	if (pid <= 0)
		return pid < 0 ? -1 : getpid();
	waitpid(pid, NULL, 0);
	return 0;
}

static long call(char *words[MAX_WORDS])
{
	unsigned long long n[MAX_WORDS];
	const char *name = words[0];

	for (int i = 0; i < MAX_WORDS; i++)
		n[i] = words[i] ? strtoull(words[i], NULL, 0) : 0;
	if (!strcmp(name, "session"))
		return begin_session();
	if (!strcmp(name, "end"))
		exit(0);
	if (words[1] == NULL)
		exit(2);

	if (!strcmp(name, "open"))
		return open(words[1], n[2]);
	if (!strcmp(name, "close"))
		return close(n[1]);
	if (!strcmp(name, "ioctl")) {
		parse_bytes(words[3]);
		return ioctl(n[1], (unsigned long)n[2], bytes);
	}
	if (!strcmp(name, "ioctlp"))
		return ioctl(n[1], (unsigned long)n[2], (void *)(uintptr_t)n[3]);
	if (!strcmp(name, "mmap"))
		return (long)mmap(NULL, n[1], n[2], n[3], n[4], n[5]);
	if (!strcmp(name, "mprotect"))
		return mprotect((void *)(uintptr_t)n[1], n[2], n[3]);
	if (!strcmp(name, "mremap"))
		return (long)mremap((void *)(uintptr_t)n[1], n[2], n[3], MREMAP_MAYMOVE);
	if (!strcmp(name, "munmap"))
		return munmap((void *)(uintptr_t)n[1], n[2]);
	if (!strcmp(name, "peek"))
		return peek((void *)(uintptr_t)n[1], n[2]);
	if (!strcmp(name, "poke")) {
		parse_bytes(words[2]);
		return poke((void *)(uintptr_t)n[1]);
	}
	if (!strcmp(name, "lseek"))
		return lseek(n[1], n[2], n[3]);
	if (!strcmp(name, "poll"))
		return poll_one(n[1], n[2]);
	if (!strcmp(name, "setuid"))
		return become(n[1]);
	if (!strcmp(name, "nofile"))
		return limit_files(n[1]);
	if (!strcmp(name, "take"))
		return take(n[1], n[2]);
	fprintf(stderr, "syscalls: what is %s?\n", name);
	exit(2);
}

int main(void)
{
	static char line[4 * MAX_BYTES];

	/* The signals may come from a handler that never returned: not blocked. */
	struct sigaction action = { .sa_handler = on_fault, .sa_flags = SA_NODEFER };

	sigaction(SIGSEGV, &action, NULL);
	sigaction(SIGBUS, &action, NULL);

	while (fgets(line, sizeof(line), stdin)) {
		char *words[MAX_WORDS] = { 0 };
		char *rest = line;
		long result;

		for (int i = 0; i < MAX_WORDS && rest; i++)
			words[i] = strtok_r(rest, " \n", &rest);
		if (!words[0])
			continue;
		count = 0;
		errno = 0;
		result = call(words);
		printf("%ld %d ", result, result == -1 ? errno : 0);
		for (size_t i = 0; i < count; i++)
			printf("%02x", bytes[i]);
		putchar('\n');
		fflush(stdout);
	}
	return 0;
}
