// SPDX-License-Identifier: MIT
// Unix sockets and the descriptors that travel on them (unix(7), SCM_RIGHTS); and
// pidfd_getfd(2), the other way to another process's. No call blocks, and none raises SIGPIPE.
#include "socket.h"

#include <fcntl.h>
#include <linux/sockios.h>
#include <poll.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <unistd.h>

#include <cstddef>
#include <cstring>
#include <string>

#include "bindings.h"
#include "device.h"

namespace dmabuf {
namespace {

constexpr int kSocketFlags = SOCK_CLOEXEC | SOCK_NONBLOCK;

union ControlBuffer {
  char bytes[CMSG_SPACE(kMaxFdsPerMessage * sizeof(int))];
  cmsghdr aligned;
};

// The length of the address; 0 where the path does not fit. One that begins with NUL is a
// name of the abstract namespace, all of whose bytes count.
socklen_t Address(const std::string& path, sockaddr_un& address) {
  address = {};
  address.sun_family = AF_UNIX;
  const size_t most = sizeof(address.sun_path) - (!path.empty() && path[0] == '\0' ? 0 : 1);
  if (path.empty() || path.size() > most) return 0;
  std::memcpy(address.sun_path, path.data(), path.size());
  if (path[0] != '\0') return sizeof(address);
  return static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + path.size());
}

bool IsConnectionType(int type) { return type == SOCK_STREAM || type == SOCK_SEQPACKET; }

// socketPair(type): [handle, handle]
Napi::Value Pair(const Call& info) {
  const Napi::Env env = info.Env();
  Arguments arguments(info);
  const int type = arguments.Signed(0);
  if (!arguments.Ok() || !IsConnectionType(type)) return Result(env, -EINVAL);
  int fds[2];
  // One end may be for a child that wants it to block; every call here says that it must not.
  if (socketpair(AF_UNIX, type | SOCK_CLOEXEC, 0, fds) != 0) return Result(env, -errno);
  UniqueFd first(fds[0]);
  UniqueFd second(fds[1]);
  Napi::Array pair = Napi::Array::New(env, 2);
  pair.Set(uint32_t{0}, info.Environment().Adopt(env, std::move(first)));
  pair.Set(uint32_t{1}, info.Environment().Adopt(env, std::move(second)));
  return pair;
}

// socketListen(path, backlog, type)
Napi::Value Listen(const Call& info) {
  const Napi::Env env = info.Env();
  Arguments arguments(info);
  sockaddr_un address;
  const socklen_t length = Address(arguments.String(0), address);
  const int backlog = arguments.Signed(1);
  const int type = arguments.Signed(2);
  if (!arguments.Ok() || length == 0 || !IsConnectionType(type)) return Result(env, -EINVAL);
  UniqueFd fd(socket(AF_UNIX, type | kSocketFlags, 0));
  if (fd.Get() < 0 || bind(fd.Get(), reinterpret_cast<sockaddr*>(&address), length) != 0 ||
      listen(fd.Get(), backlog) != 0) {
    return Result(env, -errno);
  }
  return info.Environment().Adopt(env, std::move(fd));
}

// socketConnect(path, type); -EAGAIN: the listener's backlog is full
Napi::Value Connect(const Call& info) {
  const Napi::Env env = info.Env();
  Arguments arguments(info);
  sockaddr_un address;
  const socklen_t length = Address(arguments.String(0), address);
  const int type = arguments.Signed(1);
  if (!arguments.Ok() || length == 0 || !IsConnectionType(type)) return Result(env, -EINVAL);
  UniqueFd fd(socket(AF_UNIX, type | kSocketFlags, 0));
  if (fd.Get() < 0) return Result(env, -errno);
  int result;
  do {
    result = connect(fd.Get(), reinterpret_cast<sockaddr*>(&address), length);
  } while (result != 0 && errno == EINTR);
  if (result != 0) return Result(env, -errno);
  return info.Environment().Adopt(env, std::move(fd));
}

// socketAccept(listener)
Napi::Value Accept(const Call& info) {
  const Napi::Env env = info.Env();
  Arguments arguments(info);
  const int listener = info.Environment().Fd(arguments.Unsigned(0));
  if (listener < 0) return Result(env, listener);
  int fd;
  do {
    fd = accept4(listener, nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK);
  } while (fd < 0 && (errno == EINTR || errno == ECONNABORTED));
  return info.Environment().Adopt(env, UniqueFd(fd));
}

// socketType(file): SOCK_STREAM or SOCK_SEQPACKET; -EPROTOTYPE where it is no such unix socket
Napi::Value Type(const Call& info) {
  const Napi::Env env = info.Env();
  Arguments arguments(info);
  const int fd = info.Environment().Fd(arguments.Unsigned(0));
  if (fd < 0) return Result(env, fd);
  const auto option = [fd](int name, int& value) {
    socklen_t length = sizeof(value);
    return getsockopt(fd, SOL_SOCKET, name, &value, &length) == 0 ? 0 : -errno;
  };
  int domain = 0;
  int type = 0;
  int error = option(SO_DOMAIN, domain);
  if (error == 0) error = option(SO_TYPE, type);
  if (error != 0) return Result(env, error);
  return Result(env, domain == AF_UNIX && IsConnectionType(type) ? type : -EPROTOTYPE);
}

// socketPeer(socket): {pid, uid, gid} of who connected or listened, as it was then
Napi::Value Peer(const Call& info) {
  const Napi::Env env = info.Env();
  Arguments arguments(info);
  const int fd = info.Environment().Fd(arguments.Unsigned(0));
  if (fd < 0) return Result(env, fd);
  ucred peer = {};
  socklen_t length = sizeof(peer);
  if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &length) != 0) return Result(env, -errno);
  Napi::Object result = Napi::Object::New(env);
  result.Set("pid", peer.pid);
  result.Set("uid", peer.uid);
  result.Set("gid", peer.gid);
  return result;
}

// socketSend(socket, bytes, offset, fds): the number of bytes the kernel took. The fds
// have gone with the first of them.
Napi::Value Send(const Call& info) {
  const Napi::Env env = info.Env();
  Arguments arguments(info);
  const int fd = info.Environment().Fd(arguments.Unsigned(0));
  const uint64_t offset = arguments.Unsigned(2);
  if (!arguments.Ok() || !info[1].IsTypedArray() || !info[3].IsArray()) return Result(env, -EINVAL);
  if (fd < 0) return Result(env, fd);
  const auto list = info[3].As<Napi::Array>();
  const uint32_t count = list.Length();
  if (count > static_cast<uint32_t>(kMaxFdsPerMessage)) return Result(env, -EINVAL);
  int fds[kMaxFdsPerMessage];
  for (uint32_t i = 0; i < count; i++) {
    const Napi::Value value = list.Get(i);
    if (!value.IsNumber()) return Result(env, -EINVAL);
    fds[i] = value.As<Napi::Number>().Int32Value();
  }
  // After the list, which may have getters, and those may detach the bytes.
  void* data = nullptr;
  size_t length = 0;
  napi_typedarray_type type;
  if (napi_get_typedarray_info(env, info[1], &type, &length, &data, nullptr, nullptr) != napi_ok ||
      type != napi_uint8_array || data == nullptr || offset >= length) {
    return Result(env, -EINVAL);
  }

  iovec bytes = {static_cast<char*>(data) + offset, length - static_cast<size_t>(offset)};
  ControlBuffer control = {};
  msghdr message = {};
  message.msg_iov = &bytes;
  message.msg_iovlen = 1;
  if (count > 0) {
    message.msg_control = control.bytes;
    message.msg_controllen = CMSG_SPACE(count * sizeof(int));
    cmsghdr* const header = CMSG_FIRSTHDR(&message);
    header->cmsg_level = SOL_SOCKET;
    header->cmsg_type = SCM_RIGHTS;
    header->cmsg_len = CMSG_LEN(count * sizeof(int));
    std::memcpy(CMSG_DATA(header), fds, count * sizeof(int));
  }
  ssize_t sent;
  do {
    sent = sendmsg(fd, &message, MSG_NOSIGNAL | MSG_DONTWAIT);
  } while (sent < 0 && errno == EINTR);
  return Napi::Number::New(env, sent < 0 ? -errno : static_cast<double>(sent));
}

// Whether nothing comes after a read of no bytes: a record may have none, too.
bool IsEnd(int fd) {
  pollfd state = {fd, POLLRDHUP, 0};
  if (poll(&state, 1, 0) >= 0 && (state.revents & POLLRDHUP) == 0) return false;
  int waiting = 0;
  return ioctl(fd, SIOCINQ, &waiting) != 0 || waiting == 0;
}

// socketNext(socket): the bytes of the next record
Napi::Value Next(const Call& info) {
  const Napi::Env env = info.Env();
  Arguments arguments(info);
  const int fd = info.Environment().Fd(arguments.Unsigned(0));
  if (fd < 0) return Result(env, fd);
  const ssize_t length = recv(fd, nullptr, 0, MSG_DONTWAIT | MSG_PEEK | MSG_TRUNC);
  return Napi::Number::New(env, length < 0 ? -errno : static_cast<double>(length));
}

// What a received message was, beside its bytes and descriptors.
enum ReceivedFlags { kLost = 1, kCut = 2, kEnd = 4 };

// socketReceive(socket, into, records): the number of bytes that came into the Uint8Array. The environment's numbers
// are ReceivedFlags, the number of descriptors, and those, which belong to the caller.
Napi::Value Receive(const Call& info) {
  const Napi::Env env = info.Env();
  Environment& environment = info.Environment();
  Arguments arguments(info);
  const int fd = environment.Fd(arguments.Unsigned(0));
  const bool records = arguments.Boolean(2);
  void* data = nullptr;
  size_t length = 0;
  napi_typedarray_type type;
  double* const fields = environment.numbers;
  if (!arguments.Ok() || !info[1].IsTypedArray() ||
      napi_get_typedarray_info(env, info[1], &type, &length, &data, nullptr, nullptr) != napi_ok ||
      type != napi_uint8_array || data == nullptr || length == 0) {
    return Result(env, -EINVAL);
  }
  if (fd < 0) return Result(env, fd);
  iovec bytes = {data, length};
  ControlBuffer control;
  msghdr message = {};
  message.msg_iov = &bytes;
  message.msg_iovlen = 1;
  message.msg_control = control.bytes;
  message.msg_controllen = sizeof(control.bytes);
  ssize_t received;
  do {
    received = recvmsg(fd, &message, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
  } while (received < 0 && errno == EINTR);
  if (received < 0) return Result(env, -errno);

  size_t count = 0;
  for (cmsghdr* header = CMSG_FIRSTHDR(&message); header != nullptr; header = CMSG_NXTHDR(&message, header)) {
    if (header->cmsg_level != SOL_SOCKET || header->cmsg_type != SCM_RIGHTS) continue;
    const size_t end = count + (header->cmsg_len - CMSG_LEN(0)) / sizeof(int);
    for (size_t i = 0; count < end; i++, count++) {
      int number;
      std::memcpy(&number, CMSG_DATA(header) + i * sizeof(int), sizeof(int));
      environment.Disown(number);
      environment.unclaimed.push_back(number);
      fields[2 + count] = number;
    }
  }
  const bool end = received == 0 && count == 0 && (!records || IsEnd(fd));
  fields[0] = ((message.msg_flags & MSG_CTRUNC) != 0 ? kLost : 0) | ((message.msg_flags & MSG_TRUNC) != 0 ? kCut : 0) |
              (end ? kEnd : 0);
  fields[1] = static_cast<double>(count);
  return Napi::Number::New(env, static_cast<double>(received));
}

// socketClaimed(): what socketReceive gave has found its owners
Napi::Value Claimed(const Call& info) {
  info.Environment().unclaimed.clear();
  return Result(info.Env(), 0);
}

// pidfdGetFd(pid, fd): a handle of a duplicate of another process's descriptor
Napi::Value PidfdGetFd(const Call& info) {
  const Napi::Env env = info.Env();
  Arguments arguments(info);
  const int pid = arguments.Signed(0);
  const int number = arguments.Signed(1);
  if (!arguments.Ok()) return Result(env, -EINVAL);
  const UniqueFd process(static_cast<int>(syscall(SYS_pidfd_open, pid, 0)));
  if (process.Get() < 0) return Result(env, -errno);
  // close-on-exec, as the kernel makes it
  return info.Environment().Adopt(env, UniqueFd(static_cast<int>(syscall(SYS_pidfd_getfd, process.Get(), number, 0))));
}

}  // namespace

void RegisterSocket(Napi::Env env, Napi::Object exports) {
  Register<Pair>(env, exports, "socketPair");
  Register<Listen>(env, exports, "socketListen");
  Register<Connect>(env, exports, "socketConnect");
  Register<Accept>(env, exports, "socketAccept");
  Register<Type>(env, exports, "socketType");
  Register<Peer>(env, exports, "socketPeer");
  Register<Send>(env, exports, "socketSend");
  Register<Next>(env, exports, "socketNext");
  Register<Receive>(env, exports, "socketReceive");
  Register<Claimed>(env, exports, "socketClaimed");
  Register<PidfdGetFd>(env, exports, "pidfdGetFd");
}

}  // namespace dmabuf
