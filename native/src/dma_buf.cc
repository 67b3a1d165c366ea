// SPDX-License-Identifier: MIT
// What every dma-buf takes, whoever exported it (linux/dma-buf.h).
#include <linux/dma-buf.h>
#include <poll.h>

#include <chrono>
#include <thread>

#include "bindings.h"
#include "device.h"

namespace dmabuf {
namespace {

// 1 where no fence is left that such an access has to wait for, 0 where one is, or -errno
int Ready(int fd, uint64_t flags) {
  const auto events = static_cast<short>((flags & DMA_BUF_SYNC_WRITE) != 0 ? POLLOUT : POLLIN);
  pollfd descriptor = {fd, events, 0};
  int count;
  do {
    count = poll(&descriptor, 1, 0);
  } while (count < 0 && errno == EINTR);
  return count < 0 ? -errno : count;
}

// Exporters ask to be called again while they reset their device. One that says nothing else does not
// get this thread for ever.
constexpr auto kPatience = std::chrono::seconds(2);

// DMA_BUF_IOCTL_SYNC, until the exporter has an answer. No test sees it called again: -EINTR wants a signal
// in the wait for a fence that came after Ready() has looked, -EAGAIN an exporter that neither the kernel's
// udmabuf and heaps nor our modules are.
int Bracket(int fd, uint64_t flags) {
  using Clock = std::chrono::steady_clock;
  dma_buf_sync data = {};
  data.flags = flags;
  int error = Ioctl(fd, DMA_BUF_IOCTL_SYNC, &data);
  if (error != -EAGAIN) return error;
  const auto end = Clock::now() + kPatience;
  while (error == -EAGAIN && Clock::now() < end) {
    std::this_thread::yield();
    error = Ioctl(fd, DMA_BUF_IOCTL_SYNC, &data);
  }
  return error;
}

// The dma-buf of argument 0, checked, and the DMA_BUF_SYNC_ bits of another argument.
struct Request {
  Request(const Call& info, size_t flags_index) {
    Arguments arguments(info);
    fd = info.Environment().Fd(arguments.Unsigned(0));
    flags = arguments.Unsigned32(flags_index);
    if (!arguments.Ok()) fd = -EINVAL;
  }

  // or -errno
  int fd;
  uint32_t flags;
};

// sync(buffer, flags): one half of a bracket; -EBUSY where its start would wait for a device
Napi::Value Sync(const Call& info) {
  const Napi::Env env = info.Env();
  const Request request(info, 1);
  if (request.fd < 0) return Result(env, request.fd);
  if ((request.flags & DMA_BUF_SYNC_END) == 0) {
    const int ready = Ready(request.fd, request.flags);
    if (ready <= 0) return Result(env, ready == 0 ? -EBUSY : ready);
  }
  return Result(env, Bracket(request.fd, request.flags));
}

// ready(buffer, flags)
Napi::Value IsReady(const Call& info) {
  const Request request(info, 1);
  return Result(info.Env(), request.fd < 0 ? request.fd : Ready(request.fd, request.flags));
}

// exportSyncFile(buffer, flags): a handle; -ENOTTY before Linux 6.0
Napi::Value ExportSyncFile(const Call& info) {
  const Napi::Env env = info.Env();
  const Request request(info, 1);
  if (request.fd < 0) return Result(env, request.fd);
#ifdef DMA_BUF_IOCTL_EXPORT_SYNC_FILE
  dma_buf_export_sync_file data = {};
  data.flags = request.flags;
  data.fd = -1;
  const int error = Ioctl(request.fd, DMA_BUF_IOCTL_EXPORT_SYNC_FILE, &data);
  return error < 0 ? Result(env, error) : info.Environment().Adopt(env, UniqueFd(data.fd));
#else
  return Result(env, -ENOTTY);
#endif
}

// importSyncFile(buffer, syncFile, flags): the same
Napi::Value ImportSyncFile(const Call& info) {
  const Napi::Env env = info.Env();
  const Request request(info, 2);
  Arguments arguments(info);
  const int sync_file = info.Environment().Fd(arguments.Unsigned(1));
  if (request.fd < 0 || sync_file < 0) return Result(env, request.fd < 0 ? request.fd : sync_file);
#ifdef DMA_BUF_IOCTL_IMPORT_SYNC_FILE
  dma_buf_import_sync_file data = {};
  data.flags = request.flags;
  data.fd = sync_file;
  return Result(env, Ioctl(request.fd, DMA_BUF_IOCTL_IMPORT_SYNC_FILE, &data));
#else
  return Result(env, -ENOTTY);
#endif
}

// setName(buffer, name)
Napi::Value SetName(const Call& info) {
  const Napi::Env env = info.Env();
  Arguments arguments(info);
  const int fd = info.Environment().Fd(arguments.Unsigned(0));
  std::string name = arguments.String(1);
  if (!arguments.Ok()) return Result(env, -EINVAL);
  if (fd < 0) return Result(env, fd);
  return Result(env, Ioctl(fd, DMA_BUF_SET_NAME, name.data()));
}

}  // namespace

void RegisterDmaBuf(Napi::Env env, Napi::Object exports) {
  Register<Sync>(env, exports, "sync");
  Register<IsReady>(env, exports, "ready");
  Register<ExportSyncFile>(env, exports, "exportSyncFile");
  Register<ImportSyncFile>(env, exports, "importSyncFile");
  Register<SetName>(env, exports, "setName");
}

}  // namespace dmabuf
