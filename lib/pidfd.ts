// SPDX-License-Identifier: MIT
import { constants as osConstants } from 'node:os';
import { descriptorAdvice } from './advice.js';
import { checkFd, checkInteger } from './arguments.js';
import { systemError } from './errors.js';
import { native } from './native.js';

const { errno } = osConstants;

/**
 * A duplicate of another process's descriptor (pidfd_getfd(2), Linux 5.6), close-on-exec, which belongs to the caller:
 * give it to {@link DmaBuf.fromFd} or close it. The other process does nothing for it; this one needs the right to
 * trace it (`PTRACE_MODE_ATTACH_REALCREDS`), which with `kernel.yama.ptrace_scope` 1 a process has of its children.
 *
 * @param pid - of the process
 * @param fd - its number there
 * @throws SystemError ESRCH: no such process; EBADF: it has no such descriptor; EPERM; EMFILE; ENOSYS
 * @throws TypeError ERR_INVALID_ARG_TYPE, RangeError ERR_OUT_OF_RANGE
 */
export function pidfdGetFd(pid: number, fd: number): number {
  checkInteger(pid, 'pid', 1, 0x7fffffff, { syscall: 'pidfd_getfd' });
  checkFd(fd, 'fd', 'pidfd_getfd');
  const handle = native.pidfdGetFd(pid, fd);
  if (handle < 0) throw systemError(handle, 'pidfd_getfd', `/proc/${pid}/fd/${fd}`, advice(handle));
  return native.release(handle);
}

function advice(error: number): string | undefined {
  switch (-error) {
    case errno.ESRCH:
      return 'There is no such process.';
    case errno.EBADF:
      return 'That process has no such descriptor.';
    case errno.EPERM:
      return 'This process may not trace that one: it is of another user, or kernel.yama.ptrace_scope forbids it.';
    case errno.ENOSYS:
      return 'It wants Linux 5.6 or later.';
    default:
      return descriptorAdvice(error);
  }
}
