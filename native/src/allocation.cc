// SPDX-License-Identifier: MIT
#include "allocation.h"

#include "arguments.h"
#include "environment.h"

namespace dmabuf {

Napi::Value RegionObject(Napi::Env env, const cmamem_info& data) {
  Napi::Object region = Napi::Object::New(env);
  region.Set("id", static_cast<double>(data.id));
  region.Set("offset", static_cast<double>(data.offset));
  region.Set("length", static_cast<double>(data.len));
  region.Set("physicalBase", static_cast<double>(data.phy_base));
  return region;
}

namespace {

Napi::Value ToJavaScript(Napi::Env env, Allocation& allocation) {
  if (allocation.error != 0) return Result(env, -allocation.error);
  if (allocation.number) return Result(env, *allocation.number);
  if (allocation.region) return RegionObject(env, *allocation.region);
  return Environment::Of(env).Adopt(env, std::move(allocation.fd));
}

class AllocationWorker : public Napi::AsyncWorker {
 public:
  AllocationWorker(Napi::Env env, AllocationJob job, napi_deferred deferred)
      : Napi::AsyncWorker(env, "dmabuf.alloc"), job_(std::move(job)), deferred_(deferred) {}

  void Execute() override { job_.run(job_.fd, allocation_); }
  void OnOK() override {
    job_.device.reset();
    // Fails where the thread is being stopped: nobody waits any more.
    (void)napi_resolve_deferred(Env(), deferred_, ToJavaScript(Env(), allocation_));
  }

 private:
  AllocationJob job_;
  // Closes its descriptor where the environment ended before OnOK.
  Allocation allocation_;
  napi_deferred deferred_;
};

}  // namespace

Napi::Value AllocateSync(const Call& info, AllocationParser parse) {
  Allocation allocation;
  const AllocationJob job = parse(info, allocation);
  if (allocation.error == 0) job.run(job.fd, allocation);
  return ToJavaScript(info.Env(), allocation);
}

Napi::Value AllocateAsync(const Call& info, AllocationParser parse) {
  const Napi::Env env = info.Env();
  napi_deferred deferred = nullptr;
  napi_value promise = nullptr;
  // A thread that is stopped in the middle of this call makes no promises any more. node-addon-api would hand on what
  // is not one, and make an error, by which V8 may forget that the thread is to stop.
  if (napi_create_promise(env, &deferred, &promise) != napi_ok) return {};
  Allocation allocation;
  AllocationJob job = parse(info, allocation);
  if (allocation.error != 0) {
    (void)napi_resolve_deferred(env, deferred, ToJavaScript(env, allocation));
  } else {
    // It deletes itself when done, which the check does not see.
    (new AllocationWorker(env, std::move(job), deferred))->Queue();
  }
  return {env, promise};  // NOLINT(clang-analyzer-cplusplus.NewDeleteLeaks)
}

}  // namespace dmabuf
