// SPDX-License-Identifier: MIT
#pragma once

namespace dmabuf {

// SCM_MAX_FD of the kernel's net/scm.h, which no header of user space has
constexpr int kMaxFdsPerMessage = 253;

}  // namespace dmabuf
