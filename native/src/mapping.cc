// SPDX-License-Identifier: MIT
#include "mapping.h"

#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <memory>
#include <vector>

#include "arguments.h"
#include "bindings.h"
#include "mapping_count.h"

// Node 22.23, 24.16 and 26.1 have it, and later ones; weak, so that one binary serves all.
extern "C" __attribute__((weak)) napi_status node_api_create_external_sharedarraybuffer(
    napi_env env, void* data, size_t length, void (*finalize)(void* data, void* hint), void* hint, napi_value* result);

namespace dmabuf {
namespace {

// How many more parked bytes make it worth looking for ranges to give up.
constexpr uint64_t kSweepFrom = 32 << 20;

// How many make it worth having garbage collected for them: what they take is addresses,
// of which a 32-bit process has 3 GiB. V8 is not told of them: it would collect each
// 64 MiB, which would be most of what a mapping costs.
constexpr uint64_t kCollectFrom = sizeof(void*) == 4 ? uint64_t{256} << 20 : uint64_t{4} << 30;

size_t PageSize() {
  static const auto size = static_cast<size_t>(sysconf(_SC_PAGESIZE));
  return size;
}

// The bytes to map for `length`, or 0 where they fit into no address space.
size_t WholePages(uint64_t length) {
  if (length == 0 || length > SIZE_MAX - PageSize()) return 0;
  return (static_cast<size_t>(length) + PageSize() - 1) / PageSize() * PageSize();
}

// mmap of a dma-buf or a device fails beyond its end, that of a file makes touching the
// bytes there SIGBUS.
bool EndsBefore(const FileStatus& status, uint64_t end) {
  return S_ISREG(status.mode) && static_cast<uint64_t>(status.size) < end;
}

// How to map what is only read. Before Linux 6.7 nobody maps a memfd shared that is sealed
// against writing; a private mapping shows the same pages, and not every exporter allows one.
int Sharing(const FileStatus& status) { return S_ISREG(status.mode) ? MAP_PRIVATE : MAP_SHARED; }

// Whether the process may not have another mapping, be it that the program has made them. The
// kernel asks that first (do_mmap, mm/mmap.c), so it is not the addresses that are missing.
bool NoMappingLeft() {
  void* const page = mmap(nullptr, PageSize(), PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (page == MAP_FAILED) return true;
  munmap(page, PageSize());
  return false;
}

void UnmapOne(void* address, size_t length) {
  munmap(address, length);
  MappingCount::Remove();
}

// Node-API has no call for it, but V8 collects at once where external memory explodes.
void CollectGarbage(napi_env env) {
  constexpr int64_t kExplosion = int64_t{1} << 40;
  int64_t total;
  napi_adjust_external_memory(env, kExplosion, &total);
  napi_adjust_external_memory(env, -kExplosion, &total);
}

}  // namespace

Napi::Value Mapping::Create(Napi::Env env, Environment& environment, void* address, size_t mapped, size_t visible) {
  auto* const mapping = new Mapping(environment.shared_from_this(), address, mapped);
  napi_value buffer;
  if (napi_create_external_arraybuffer(env, address, visible, BackingStoreFreed, mapping, &buffer) != napi_ok) {
    // Whether the finalizer will be called is not said: unmap now, and let the few
    // bytes of this object be what stays if it is not.
    mapping->object_gone_ = true;
    mapping->Unmap();
    if (env.IsExceptionPending()) env.GetAndClearPendingException();
    return Result(env, -ENOTSUP);
  }
  if (napi_add_finalizer(env, buffer, mapping, ObjectCollected, nullptr, &mapping->object_) != napi_ok) {
    mapping->object_gone_ = true;
    napi_detach_arraybuffer(env, buffer);
    mapping->Unmap();
    return Result(env, -ENOMEM);
  }
  environment.mappings.emplace(mapping->handle_, mapping);
  environment.numbers[0] = static_cast<double>(mapping->handle_);
  return Napi::Value(env, buffer);
}

int Mapping::Close(Napi::Env env) {
  napi_value buffer = nullptr;
  bool moved = true;
  if (object_ == nullptr || napi_get_reference_value(env, object_, &buffer) != napi_ok || buffer == nullptr ||
      napi_is_detached_arraybuffer(env, buffer, &moved) != napi_ok || moved ||
      napi_detach_arraybuffer(env, buffer) != napi_ok) {
    return 1;
  }
  Park();
  return 0;
}

void Mapping::Park() {
  // Memory and not PROT_NONE: crypto.randomFill and the like touch the bytes in threads of
  // their own, where a fault is SIGSEGV and not EFAULT. What is under way writes into, or
  // sends the zeroes of, pages that nobody else will ever see.
  constexpr int kFlags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED;
  if (mmap(address_, mapped_, PROT_READ | PROT_WRITE, kFlags, -1, 0) == MAP_FAILED) {
    // Strict overcommit counts even this, and kernels before 6.12 refuse it after they have
    // unmapped what was there: PROT_NONE costs nothing and keeps others out of the hole. Where
    // the program has left the process no mapping at all, both are refused before anything is
    // touched: what is under way goes on in the buffer itself, and stays ours until it is done.
    (void)mmap(address_, mapped_, PROT_NONE, kFlags, -1, 0);
  }
  environment_->mappings.erase(handle_);
  parked_ = true;
  parked_at_ = environment_->parked.size();
  environment_->parked.push_back(this);
  environment_->parked_bytes += mapped_;
}

void Mapping::Unmap() {
  if (unmapped_) return;
  unmapped_ = true;
  if (!parked_) {
    UnmapOne(address_, mapped_);
    environment_->mappings.erase(handle_);
    return;
  }
  environment_->unused.Add(address_, mapped_);
  Mapping* const last = environment_->parked.back();
  last->parked_at_ = parked_at_;
  environment_->parked[parked_at_] = last;
  environment_->parked.pop_back();
  environment_->parked_bytes -= mapped_;
}

void Mapping::ObjectCollected(napi_env env, void* self, void*) {
  auto* const mapping = static_cast<Mapping*>(self);
  mapping->object_gone_ = true;
  napi_delete_reference(env, mapping->object_);
  mapping->object_ = nullptr;
  if (!mapping->backing_gone_) return;
  mapping->Unmap();
  delete mapping;
}

void Mapping::BackingStoreFreed(napi_env, void*, void* self) {
  auto* const mapping = static_cast<Mapping*>(self);
  mapping->backing_gone_ = true;
  if (!mapping->object_gone_) return;
  mapping->Unmap();
  delete mapping;
}

void Mapping::Sweep(Napi::Env env, Environment& environment) {
  // What is found alive is not kept so by having been looked for.
  const Napi::HandleScope scope(env);
  std::vector<Mapping*> collected;
  for (Mapping* mapping : environment.parked) {
    napi_value object = nullptr;
    if (mapping->object_ == nullptr ||
        (napi_get_reference_value(env, mapping->object_, &object) == napi_ok && object == nullptr)) {
      collected.push_back(mapping);
    }
  }
  for (Mapping* mapping : collected) mapping->Unmap();
  environment.parked_sweep_at = environment.parked_bytes + std::max(kSweepFrom, environment.parked_bytes / 2);
}

void Mapping::Collect(Napi::Env env, Environment& environment) {
  CollectGarbage(env);
  Sweep(env, environment);
  environment.parked_after_collection = environment.parked_bytes;
}

namespace {

// Part of a file in the address space, for reading and writing.
struct Mapped {
  // 0 or -errno
  int error = 0;
  void* address = nullptr;
  // bytes, whole pages
  size_t length = 0;
  // bytes asked for
  size_t visible = 0;
};

// The file of argument 0, from the offset of argument 1 on, so many bytes as argument 2.
Mapped MapFile(const Call& info) {
  const Napi::Env env = info.Env();
  Environment& environment = info.Environment();
  Arguments arguments(info);
  FileStatus status;
  const int fd = environment.Fd(arguments.Unsigned(0), &status);
  const uint64_t offset = arguments.Unsigned(1);
  const uint64_t length = arguments.Unsigned(2);
  Mapped result;
  result.length = WholePages(length);
  result.visible = static_cast<size_t>(length);
  const bool beyond = fd >= 0 && EndsBefore(status, offset + length);
  if (!arguments.Ok() || length == 0 || beyond) result.error = -EINVAL;
  else if (fd < 0) result.error = fd;
  else if (result.length == 0) result.error = -ENOMEM;
  if (result.error < 0) return result;

  if (environment.parked_bytes > environment.parked_sweep_at) Mapping::Sweep(env, environment);
  if (environment.parked_bytes > environment.parked_after_collection + kCollectFrom) Mapping::Collect(env, environment);
  if (MappingCount::Full()) {
    environment.unused.Unmap();
    if (MappingCount::Full() && !environment.parked.empty()) {
      Mapping::Collect(env, environment);
      environment.unused.Unmap();
    }
    if (MappingCount::Full()) {
      result.error = -ENOMEM;
      return result;
    }
  }
  const auto map = [&] {
    return mmap(nullptr, result.length, PROT_READ | PROT_WRITE, MAP_SHARED, fd, static_cast<off_t>(offset));
  };
  result.address = map();
  if (result.address == MAP_FAILED && errno == ENOMEM && !NoMappingLeft()) {
    if (environment.parked_bytes > 0) Mapping::Collect(env, environment);
    environment.unused.Unmap();
    result.address = map();
  }
  if (result.address == MAP_FAILED) result.error = -errno;
  else MappingCount::Add();
  return result;
}

// map(file, offset, length): an ArrayBuffer, and its handle for unmap() as the first of the environment's numbers
Napi::Value Map(const Call& info) {
  const Mapped mapped = MapFile(info);
  if (mapped.error < 0) return Result(info.Env(), mapped.error);
  return Mapping::Create(info.Env(), info.Environment(), mapped.address, mapped.length, mapped.visible);
}

// On whatever thread lets go of the memory last.
void UnmapShared(void* address, void* hint) {
  const std::unique_ptr<size_t> length(static_cast<size_t*>(hint));
  UnmapOne(address, *length);
}

// mapShared(file, offset, length): a SharedArrayBuffer, whose memory stays as long as any
// thread has it; -ENOTSUP where Node has no such thing
Napi::Value MapShared(const Call& info) {
  const Napi::Env env = info.Env();
  if (node_api_create_external_sharedarraybuffer == nullptr) return Result(env, -ENOTSUP);
  const Mapped mapped = MapFile(info);
  if (mapped.error < 0) return Result(env, mapped.error);
  auto length = std::make_unique<size_t>(mapped.length);
  napi_value buffer;
  if (node_api_create_external_sharedarraybuffer(env, mapped.address, mapped.visible, UnmapShared, length.get(),
                                                 &buffer) != napi_ok) {
    UnmapOne(mapped.address, mapped.length);
    return Result(env, -ENOTSUP);
  }
  // UnmapShared frees it
  (void)length.release();
  return Napi::Value(env, buffer);
}

// unmap(mapping): 0; 1 where script moved the memory out of its ArrayBuffer, which lives on then
Napi::Value Unmap(const Call& info) {
  const Napi::Env env = info.Env();
  Arguments arguments(info);
  const auto& mappings = info.Environment().mappings;
  const auto found = mappings.find(arguments.Unsigned(0));
  return Result(env, found == mappings.end() ? 1 : found->second->Close(env));
}

// copy(file, offset, destination): fills an ordinary ArrayBuffer through a read-only mapping
Napi::Value Copy(const Call& info) {
  const Napi::Env env = info.Env();
  Arguments arguments(info);
  FileStatus status;
  const int fd = info.Environment().Fd(arguments.Unsigned(0), &status);
  const uint64_t offset = arguments.Unsigned(1);
  if (!arguments.Ok() || !info[2].IsArrayBuffer()) return Result(env, -EINVAL);
  if (fd < 0) return Result(env, fd);
  const auto destination = info[2].As<Napi::ArrayBuffer>();
  void* data = nullptr;
  size_t length = 0;
  if (napi_get_arraybuffer_info(env, destination, &data, &length) != napi_ok) return Result(env, -EINVAL);
  const uint64_t skip = offset % PageSize();
  const size_t mapped = WholePages(skip + length);
  if (data == nullptr || length == 0 || mapped == 0 || EndsBefore(status, offset + length)) return Result(env, -EINVAL);
  void* const source = mmap(nullptr, mapped, PROT_READ, Sharing(status), fd, static_cast<off_t>(offset - skip));
  if (source == MAP_FAILED) return Result(env, -errno);
  std::memcpy(data, static_cast<const char*>(source) + skip, length);
  munmap(source, mapped);
  return Result(env, 0);
}

}  // namespace

void RegisterMapping(Napi::Env env, Napi::Object exports) {
  Register<Map>(env, exports, "map");
  Register<Unmap>(env, exports, "unmap");
  Register<MapShared>(env, exports, "mapShared");
  Register<Copy>(env, exports, "copy");
}

}  // namespace dmabuf
