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
  AllocationWorker(Napi::Env env, AllocationJob job)
      : Napi::AsyncWorker(env, "dmabuf.alloc"), job_(std::move(job)), deferred_(env) {}

  Napi::Promise Promise() const { return deferred_.Promise(); }

  void Execute() override { job_.run(job_.fd, allocation_); }
  void OnOK() override {
    job_.device.reset();
    deferred_.Resolve(ToJavaScript(Env(), allocation_));
  }

 private:
  AllocationJob job_;
  // Closes its descriptor where the environment ended before OnOK.
  Allocation allocation_;
  Napi::Promise::Deferred deferred_;
};

}  // namespace

Napi::Value AllocateSync(const Call& info, AllocationParser parse) {
  Allocation allocation;
  const AllocationJob job = parse(info, allocation);
  if (allocation.error == 0) job.run(job.fd, allocation);
  return ToJavaScript(info.Env(), allocation);
}

Napi::Value AllocateAsync(const Call& info, AllocationParser parse) {
  Allocation allocation;
  AllocationJob job = parse(info, allocation);
  if (allocation.error != 0) {
    Napi::Promise::Deferred deferred(info.Env());
    deferred.Resolve(ToJavaScript(info.Env(), allocation));
    return deferred.Promise();
  }
  // deletes itself when done
  auto* const worker = new AllocationWorker(info.Env(), std::move(job));
  const Napi::Promise promise = worker->Promise();
  worker->Queue();
  return promise;
}

}  // namespace dmabuf
