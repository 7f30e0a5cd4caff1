// SMs that read and write pinned host memory, as collectives without peer access do.
//
// A chosen number of thread blocks moves tiles of 64 KiB, each thread with eight 16-byte accesses in flight. Reads bypass
// the caches, so every round over the buffer crosses the link again.

#include "common.cuh"

namespace {

constexpr int kThreads = 512;
constexpr int kUnroll = 8;
constexpr uint64_t kTileVectors = kThreads * kUnroll;
constexpr uint64_t kTileBytes = kTileVectors * 16;

__global__ void __launch_bounds__(kThreads)
    read_kernel(const uint4 *host, uint4 *device, uint64_t buffer_tiles, uint64_t moved_tiles) {
    for (uint64_t tile = blockIdx.x; tile < moved_tiles; tile += gridDim.x) {
        const uint64_t first = (tile % buffer_tiles) * kTileVectors + threadIdx.x;
        uint4 values[kUnroll];
#pragma unroll
        for (int i = 0; i < kUnroll; ++i) {
            values[i] = __ldcv(host + first + i * kThreads);
        }
#pragma unroll
        for (int i = 0; i < kUnroll; ++i) {
            __stcs(device + first + i * kThreads, values[i]);
        }
    }
}

__global__ void __launch_bounds__(kThreads)
    write_kernel(uint4 *host, const uint4 *device, uint64_t buffer_tiles, uint64_t moved_tiles) {
    for (uint64_t tile = blockIdx.x; tile < moved_tiles; tile += gridDim.x) {
        const uint64_t first = (tile % buffer_tiles) * kTileVectors + threadIdx.x;
        uint4 values[kUnroll];
#pragma unroll
        for (int i = 0; i < kUnroll; ++i) {
            values[i] = __ldcs(device + first + i * kThreads);
        }
#pragma unroll
        for (int i = 0; i < kUnroll; ++i) {
            __stwt(host + first + i * kThreads, values[i]);
        }
    }
}

bool acceptable(const void *host, const void *device, uint64_t buffer_bytes, uint64_t moved_bytes, int blocks) {
    const bool whole = buffer_bytes % kTileBytes == 0 && moved_bytes % kTileBytes == 0;
    return offsim_aligned(host) && offsim_aligned(device) && whole && buffer_bytes > 0 && moved_bytes > 0 && blocks > 0;
}

}  // namespace

int offsim_load_host_access() {
    OFFSIM_TRY_OWN(offsim_load(read_kernel));
    return offsim_load(write_kernel);
}

// `blocks` thread blocks read pinned `host` into `device`, both of `buffer_bytes`, round and round until `moved_bytes`
// have crossed the link; both are multiples of 65,536.
extern "C" int offsim_sm_read(void *host, void *device, uint64_t buffer_bytes, uint64_t moved_bytes, int blocks,
                              void *stream) {
    if (!acceptable(host, device, buffer_bytes, moved_bytes, blocks)) {
        return offsim_refused();
    }
    read_kernel<<<blocks, kThreads, 0, offsim_stream(stream)>>>(
        static_cast<const uint4 *>(host), static_cast<uint4 *>(device), buffer_bytes / kTileBytes,
        moved_bytes / kTileBytes);
    return offsim_launched();
}

// As offsim_sm_read, from `device` to `host`.
extern "C" int offsim_sm_write(void *host, void *device, uint64_t buffer_bytes, uint64_t moved_bytes, int blocks,
                               void *stream) {
    if (!acceptable(host, device, buffer_bytes, moved_bytes, blocks)) {
        return offsim_refused();
    }
    write_kernel<<<blocks, kThreads, 0, offsim_stream(stream)>>>(
        static_cast<uint4 *>(host), static_cast<const uint4 *>(device), buffer_bytes / kTileBytes,
        moved_bytes / kTileBytes);
    return offsim_launched();
}

// Milliseconds of each of `iterations` reads back to back; waits for them.
extern "C" int offsim_sm_read_timed(void *host, void *device, uint64_t buffer_bytes, uint64_t moved_bytes, int blocks,
                                    int iterations, float *milliseconds, void *stream) {
    const auto launch = [=] { return offsim_sm_read(host, device, buffer_bytes, moved_bytes, blocks, stream); };
    return offsim_timed(launch, iterations, milliseconds, offsim_stream(stream));
}

// Milliseconds of each of `iterations` writes back to back; waits for them.
extern "C" int offsim_sm_write_timed(void *host, void *device, uint64_t buffer_bytes, uint64_t moved_bytes, int blocks,
                                     int iterations, float *milliseconds, void *stream) {
    const auto launch = [=] { return offsim_sm_write(host, device, buffer_bytes, moved_bytes, blocks, stream); };
    return offsim_timed(launch, iterations, milliseconds, offsim_stream(stream));
}
