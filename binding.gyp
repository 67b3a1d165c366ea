# SPDX-License-Identifier: MIT
# The addon for the machine it is built on; native/CMakeLists.txt is its cross build.
{
  "targets": [
    {
      "target_name": "dmabuf",
      "sources": [
        "<!@(node -p \"require('fs').readFileSync('native/sources.txt', 'utf8').trim().split('\\n').map(f => 'native/' + f).join(' ')\")"
      ],
      "include_dirs": [
        "kernel-modules/include/uapi",
        "<!@(node -p \"require('node-addon-api').include\")"
      ],
      "defines": [
        "NAPI_VERSION=8",
        "NAPI_DISABLE_CPP_EXCEPTIONS",
        # a worker terminated in the middle of a call takes no exceptions: not fatal
        "NODE_API_SWALLOW_UNTHROWABLE_EXCEPTIONS",
        "_FILE_OFFSET_BITS=64"
      ],
      "cflags": ["-Wall", "-Wextra", "-Werror", "-fvisibility=hidden"]
    }
  ]
}
