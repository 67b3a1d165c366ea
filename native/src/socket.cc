// SPDX-License-Identifier: MIT
// Unix stream sockets and the descriptors that travel on them (unix(7), SCM_RIGHTS).
// No call blocks, and none raises SIGPIPE.
#include "socket.h"

#include <fcntl.h>
#include <sys/socket.h>
#include <sys/un.h>

#include <cstring>
#include <string>
#include <vector>

#include "bindings.h"
#include "device.h"

namespace dmabuf {
namespace {

constexpr size_t kReceiveBytes = 64 << 10;
constexpr int kSocketType = SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK;

union ControlBuffer {
  char bytes[CMSG_SPACE(kMaxFdsPerMessage * sizeof(int))];
  cmsghdr aligned;
};

// false where the path does not fit
bool Address(const std::string& path, sockaddr_un& address) {
  address = {};
  address.sun_family = AF_UNIX;
  if (path.empty() || path.size() >= sizeof(address.sun_path)) return false;
  std::memcpy(address.sun_path, path.c_str(), path.size());
  return true;
}

// socketPair(): [handle, handle]
Napi::Value Pair(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  int fds[2];
  if (socketpair(AF_UNIX, kSocketType, 0, fds) != 0) return Result(env, -errno);
  UniqueFd first(fds[0]);
  UniqueFd second(fds[1]);
  Napi::Array pair = Napi::Array::New(env, 2);
  pair.Set(uint32_t{0}, Environment::Of(env).Adopt(env, std::move(first)));
  pair.Set(uint32_t{1}, Environment::Of(env).Adopt(env, std::move(second)));
  return pair;
}

// socketListen(path, backlog)
Napi::Value Listen(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  Arguments arguments(info);
  sockaddr_un address;
  const bool fits = Address(arguments.String(0), address);
  const int backlog = arguments.Signed(1);
  if (!arguments.Ok() || !fits) return Result(env, -EINVAL);
  UniqueFd fd(socket(AF_UNIX, kSocketType, 0));
  if (fd.Get() < 0 || bind(fd.Get(), reinterpret_cast<sockaddr*>(&address), sizeof(address)) != 0 ||
      listen(fd.Get(), backlog) != 0) {
    return Result(env, -errno);
  }
  return Environment::Of(env).Adopt(env, std::move(fd));
}

// socketConnect(path); -EAGAIN: the listener's backlog is full
Napi::Value Connect(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  Arguments arguments(info);
  sockaddr_un address;
  const bool fits = Address(arguments.String(0), address);
  if (!arguments.Ok() || !fits) return Result(env, -EINVAL);
  UniqueFd fd(socket(AF_UNIX, kSocketType, 0));
  if (fd.Get() < 0) return Result(env, -errno);
  int result;
  do {
    result = connect(fd.Get(), reinterpret_cast<sockaddr*>(&address), sizeof(address));
  } while (result != 0 && errno == EINTR);
  if (result != 0) return Result(env, -errno);
  return Environment::Of(env).Adopt(env, std::move(fd));
}

// socketAccept(listener)
Napi::Value Accept(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  Arguments arguments(info);
  const int listener = Environment::Of(env).Fd(arguments.Unsigned(0));
  if (listener < 0) return Result(env, listener);
  int fd;
  do {
    fd = accept4(listener, nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK);
  } while (fd < 0 && (errno == EINTR || errno == ECONNABORTED));
  return Environment::Of(env).Adopt(env, UniqueFd(fd));
}

// socketCheck(file): 0 where it is a unix stream socket
Napi::Value Check(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  Arguments arguments(info);
  const int fd = Environment::Of(env).Fd(arguments.Unsigned(0));
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
  return Result(env, domain == AF_UNIX && type == SOCK_STREAM ? 0 : -EPROTOTYPE);
}

// socketSend(socket, bytes, offset, fds): the number of bytes the kernel took. The fds
// have gone with the first of them.
Napi::Value Send(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  Arguments arguments(info);
  const int fd = Environment::Of(env).Fd(arguments.Unsigned(0));
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

// socketReceive(socket): {bytes, fds, truncated}, fds being handles; no bytes is the end
Napi::Value Receive(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  Environment& environment = Environment::Of(env);
  Arguments arguments(info);
  const int fd = environment.Fd(arguments.Unsigned(0));
  if (fd < 0) return Result(env, fd);
  static thread_local char buffer[kReceiveBytes];
  iovec bytes = {buffer, sizeof(buffer)};
  ControlBuffer control = {};
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

  std::vector<UniqueFd> fds;
  for (cmsghdr* header = CMSG_FIRSTHDR(&message); header != nullptr; header = CMSG_NXTHDR(&message, header)) {
    if (header->cmsg_level != SOL_SOCKET || header->cmsg_type != SCM_RIGHTS) continue;
    const size_t count = (header->cmsg_len - CMSG_LEN(0)) / sizeof(int);
    for (size_t i = 0; i < count; i++) {
      int number;
      std::memcpy(&number, CMSG_DATA(header) + i * sizeof(int), sizeof(int));
      fds.emplace_back(number);
    }
  }
  Napi::Array handles = Napi::Array::New(env, fds.size());
  for (uint32_t i = 0; i < fds.size(); i++) handles.Set(i, environment.Adopt(env, std::move(fds[i])));
  Napi::Object result = Napi::Object::New(env);
  result.Set("bytes", Napi::Buffer<char>::Copy(env, buffer, static_cast<size_t>(received)));
  result.Set("fds", handles);
  result.Set("truncated", (message.msg_flags & MSG_CTRUNC) != 0);
  return result;
}

}  // namespace

void RegisterSocket(Napi::Env env, Napi::Object exports) {
  exports.Set("socketPair", Napi::Function::New<Pair>(env, "socketPair"));
  exports.Set("socketListen", Napi::Function::New<Listen>(env, "socketListen"));
  exports.Set("socketConnect", Napi::Function::New<Connect>(env, "socketConnect"));
  exports.Set("socketAccept", Napi::Function::New<Accept>(env, "socketAccept"));
  exports.Set("socketCheck", Napi::Function::New<Check>(env, "socketCheck"));
  exports.Set("socketSend", Napi::Function::New<Send>(env, "socketSend"));
  exports.Set("socketReceive", Napi::Function::New<Receive>(env, "socketReceive"));
}

}  // namespace dmabuf
