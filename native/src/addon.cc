// SPDX-License-Identifier: MIT
#include <napi.h>

#include "bindings.h"
#include "environment.h"

namespace dmabuf {
namespace {

Napi::Object Initialize(Napi::Env env, Napi::Object exports) {
  Environment::Install(env, exports);
  RegisterCmaMem(env, exports);
  RegisterConstants(env, exports);
  RegisterDescriptor(env, exports);
  RegisterDmaBuf(env, exports);
  RegisterDmaHeap(env, exports);
  RegisterExporter(env, exports);
  RegisterIon(env, exports);
  RegisterIonHandles(env, exports);
  RegisterMapping(env, exports);
  RegisterMemfd(env, exports);
  RegisterPoller(env, exports);
  RegisterSocket(env, exports);
  RegisterSyncFile(env, exports);
  RegisterUdmabuf(env, exports);
  RegisterV4l2Buffers(env, exports);
  RegisterV4l2Constants(env, exports);
  RegisterV4l2Controls(env, exports);
  RegisterV4l2Device(env, exports);
  RegisterV4l2Events(env, exports);
  return exports;
}

}  // namespace
}  // namespace dmabuf

static Napi::Object Initialize(Napi::Env env, Napi::Object exports) { return dmabuf::Initialize(env, exports); }

NODE_API_MODULE(dmabuf, Initialize)
