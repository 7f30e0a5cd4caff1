// HBM triad a = b + scale * c: what device memory gives at best, read twice and written once.

#include "common.cuh"

namespace {

constexpr int kThreads = 256;
constexpr int kUnroll = 4;
constexpr uint64_t kBlockVectors = kThreads * kUnroll;

__device__ float4 triad_of(const float4 &b, float scale, const float4 &c) {
    return make_float4(fmaf(scale, c.x, b.x), fmaf(scale, c.y, b.y), fmaf(scale, c.z, b.z), fmaf(scale, c.w, b.w));
}

__global__ void __launch_bounds__(kThreads)
    triad_kernel(float4 *__restrict__ a, const float4 *__restrict__ b, const float4 *__restrict__ c, float scale,
                 uint64_t vectors) {
    const uint64_t first = blockIdx.x * kBlockVectors + threadIdx.x;
    float4 left[kUnroll];
    float4 right[kUnroll];
#pragma unroll
    for (int i = 0; i < kUnroll; ++i) {
        const uint64_t at = first + i * kThreads;
        if (at < vectors) {
            left[i] = __ldcs(b + at);
            right[i] = __ldcs(c + at);
        }
    }
#pragma unroll
    for (int i = 0; i < kUnroll; ++i) {
        const uint64_t at = first + i * kThreads;
        if (at < vectors) {
            __stcs(a + at, triad_of(left[i], scale, right[i]));
        }
    }
}

}  // namespace

int offsim_load_triad() { return offsim_load(triad_kernel); }

// a = b + scale * c on float arrays of `bytes` bytes each (a multiple of 16), which moves 3 * bytes.
extern "C" int offsim_triad(void *a, void *b, void *c, uint64_t bytes, float scale, void *stream) {
    const uint64_t vectors = bytes / 16;
    const uint64_t blocks = (vectors + kBlockVectors - 1) / kBlockVectors;
    const bool aligned = offsim_aligned(a) && offsim_aligned(b) && offsim_aligned(c);
    if (!aligned || bytes % 16 != 0 || blocks == 0 || blocks > INT32_MAX) {
        return offsim_refused();
    }
    triad_kernel<<<static_cast<unsigned>(blocks), kThreads, 0, offsim_stream(stream)>>>(
        static_cast<float4 *>(a), static_cast<const float4 *>(b), static_cast<const float4 *>(c), scale, vectors);
    return offsim_launched();
}

// Milliseconds of each of `iterations` triads back to back; waits for them.
extern "C" int offsim_triad_timed(void *a, void *b, void *c, uint64_t bytes, float scale, int iterations,
                                  float *milliseconds, void *stream) {
    const auto launch = [=] { return offsim_triad(a, b, c, bytes, scale, stream); };
    return offsim_timed(launch, iterations, milliseconds, offsim_stream(stream));
}
