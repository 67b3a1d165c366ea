// SPDX-License-Identifier: MIT
// Every file with functions for JavaScript registers them here.
#pragma once

#include <napi.h>

namespace dmabuf {

void RegisterCmaMem(Napi::Env env, Napi::Object exports);
void RegisterConstants(Napi::Env env, Napi::Object exports);
void RegisterDescriptor(Napi::Env env, Napi::Object exports);
void RegisterDmaBuf(Napi::Env env, Napi::Object exports);
void RegisterDmaHeap(Napi::Env env, Napi::Object exports);
void RegisterExporter(Napi::Env env, Napi::Object exports);
void RegisterIon(Napi::Env env, Napi::Object exports);
void RegisterIonHandles(Napi::Env env, Napi::Object exports);
void RegisterMapping(Napi::Env env, Napi::Object exports);
void RegisterMemfd(Napi::Env env, Napi::Object exports);
void RegisterPoller(Napi::Env env, Napi::Object exports);
void RegisterSocket(Napi::Env env, Napi::Object exports);
void RegisterSyncFile(Napi::Env env, Napi::Object exports);
void RegisterUdmabuf(Napi::Env env, Napi::Object exports);
void RegisterV4l2Buffers(Napi::Env env, Napi::Object exports);
void RegisterV4l2Constants(Napi::Env env, Napi::Object exports);
void RegisterV4l2Controls(Napi::Env env, Napi::Object exports);
void RegisterV4l2Device(Napi::Env env, Napi::Object exports);
void RegisterV4l2Events(Napi::Env env, Napi::Object exports);

}  // namespace dmabuf
