// SPDX-License-Identifier: MIT
// /dev/ion, the handle interface of Linux 3.0 to 4.11.
#include <dmabuf/ion.h>
#include <dmabuf/ion_legacy.h>

#include "bindings.h"
#include "device.h"

namespace dmabuf {
namespace {

// A call with the device of argument 0: what `body` answers, or -errno.
template <typename Body>
Napi::Value WithDevice(const Call& info, Body body) {
  const Napi::Env env = info.Env();
  Arguments arguments(info);
  const int device = info.Environment().Fd(arguments.Unsigned(0));
  if (device < 0) return Result(env, device);
  return body(env, device, arguments);
}

// ionHandleAlloc(device, length, align, heapMask, cached)
AllocationJob ParseAlloc(const Call& info, Allocation& allocation) {
  Arguments arguments(info);
  AllocationJob job;
  ParseDevice(info, arguments, job, allocation);
  ion_legacy_alloc data = {};
  const uint64_t length = arguments.Unsigned(1);
  data.len = static_cast<size_t>(length);
  data.align = arguments.Unsigned32(2);
  data.heap_id_mask = arguments.Unsigned32(3);
  data.flags = arguments.Boolean(4) ? ION_FLAG_CACHED : 0;
  if (!arguments.Ok()) allocation.error = EINVAL;
  // More than a program of 32 bits can ask for.
  else if (data.len != length) allocation.error = ENOMEM;
  job.run = [data](int fd, Allocation& result) mutable {
    result.error = -Ioctl(fd, ION_LEGACY_IOC_ALLOC, &data);
    // Of another device with a call of this number.
    if (result.error == 0 && data.handle <= 0) result.error = ENOTTY;
    if (result.error == 0) result.number = data.handle;
  };
  return job;
}

// ionHandleFree(device, handle)
Napi::Value Free(const Call& info) {
  return WithDevice(info, [](Napi::Env env, int device, Arguments& arguments) {
    __s32 handle = arguments.Signed(1);
    return Result(env, arguments.Ok() ? Ioctl(device, ION_LEGACY_IOC_FREE, &handle) : -EINVAL);
  });
}

// ionHandleShare(device, handle)
Napi::Value Share(const Call& info) {
  return WithDevice(info, [](Napi::Env env, int device, Arguments& arguments) {
    ion_legacy_fd data = {};
    data.handle = arguments.Signed(1);
    const int error = arguments.Ok() ? Ioctl(device, ION_LEGACY_IOC_SHARE, &data) : -EINVAL;
    if (error != 0) return Result(env, error);
    return Environment::Of(env).Adopt(env, UniqueFd(data.fd));
  });
}

// Calls that take a descriptor.
template <typename Body>
Napi::Value WithBuffer(const Call& info, Body body) {
  return WithDevice(info, [&body](Napi::Env env, int device, Arguments& arguments) {
    ion_legacy_fd data = {};
    data.fd = arguments.Signed(1);
    return Result(env, arguments.Ok() ? body(device, data) : -EINVAL);
  });
}

// ionHandleImport(device, fd)
Napi::Value Import(const Call& info) {
  return WithBuffer(info, [](int device, ion_legacy_fd& data) {
    const int error = Ioctl(device, ION_LEGACY_IOC_IMPORT, &data);
    return error != 0 ? error : data.handle;
  });
}

// ionHandleSync(device, fd)
Napi::Value Sync(const Call& info) {
  return WithBuffer(info, [](int device, ion_legacy_fd& data) { return Ioctl(device, ION_LEGACY_IOC_SYNC, &data); });
}

// ionHandleFlush(device, handle, how, bytes, offset): how is 0 to clean, 1 to invalidate, 2 for both
Napi::Value Flush(const Call& info) {
  return WithDevice(info, [&info](Napi::Env env, int device, Arguments& arguments) {
    static constexpr unsigned long kRequests[] = {ION_LEGACY_IOC_CLEAN_CACHES, ION_LEGACY_IOC_INV_CACHES,
                                                  ION_LEGACY_IOC_CLEAN_INV_CACHES};
    ion_legacy_flush data = {};
    data.handle = arguments.Signed(1);
    const auto how = arguments.Unsigned(2, std::size(kRequests) - 1);
    data.offset = arguments.Unsigned32(4);
    if (!arguments.Ok() || !info[3].IsTypedArray()) return Result(env, -EINVAL);
    auto bytes = info[3].As<Napi::Uint8Array>();
    if (bytes.TypedArrayType() != napi_uint8_array || bytes.ByteLength() > UINT32_MAX) return Result(env, -EINVAL);
    data.vaddr = bytes.Data();
    data.length = static_cast<uint32_t>(bytes.ByteLength());
    return Result(env, Ioctl(device, kRequests[how], &data));
  });
}

// ionHandleFlags(device, handle)
Napi::Value Flags(const Call& info) {
  return WithDevice(info, [](Napi::Env env, int device, Arguments& arguments) {
    ion_legacy_flags data = {};
    data.handle = arguments.Signed(1);
    const int error = arguments.Ok() ? Ioctl(device, ION_LEGACY_IOC_GET_FLAGS, &data) : -EINVAL;
    return Result(env, error != 0 ? error : static_cast<int>(data.flags));
  });
}

// ionHeapSecure(device, heapId, secure)
Napi::Value Secure(const Call& info) {
  return WithDevice(info, [](Napi::Env env, int device, Arguments& arguments) {
    ion_legacy_custom data = {};
    data.arg = arguments.Unsigned32(1);
    data.cmd = arguments.Boolean(2) ? ION_LEGACY_SECURE_HEAP : ION_LEGACY_UNSECURE_HEAP;
    return Result(env, arguments.Ok() ? Ioctl(device, ION_LEGACY_IOC_CUSTOM, &data) : -EINVAL);
  });
}

}  // namespace

void RegisterIonHandles(Napi::Env env, Napi::Object exports) {
  Register<AllocateAsync<ParseAlloc>>(env, exports, "ionHandleAlloc");
  Register<AllocateSync<ParseAlloc>>(env, exports, "ionHandleAllocSync");
  Register<Free>(env, exports, "ionHandleFree");
  Register<Share>(env, exports, "ionHandleShare");
  Register<Import>(env, exports, "ionHandleImport");
  Register<Sync>(env, exports, "ionHandleSync");
  Register<Flush>(env, exports, "ionHandleFlush");
  Register<Flags>(env, exports, "ionHandleFlags");
  Register<Secure>(env, exports, "ionHeapSecure");
}

}  // namespace dmabuf
