// The two kinds of kernel around matrix multiplies: in-place arithmetic, and the reordering before and after an
// all-to-all. Both are limited by device memory and use 16-byte vectors of eight bf16.

#include "common.cuh"
#include <cuda_bf16.h>

namespace {

constexpr int kThreads = 256;
constexpr int kUnroll = 4;
constexpr uint64_t kBlockVectors = kThreads * kUnroll;

__device__ uint32_t scaled(uint32_t pair, float scale, float offset) {
    __nv_bfloat162 packed;
    memcpy(&packed, &pair, sizeof pair);
    const float2 value = __bfloat1622float2(packed);
    packed = __floats2bfloat162_rn(fmaf(scale, value.x, offset), fmaf(scale, value.y, offset));
    memcpy(&pair, &packed, sizeof pair);
    return pair;
}

__global__ void __launch_bounds__(kThreads) elementwise_kernel(uint4 *values, float scale, float offset, uint64_t vectors) {
    const uint64_t first = blockIdx.x * kBlockVectors + threadIdx.x;
    uint4 held[kUnroll];
#pragma unroll
    for (int i = 0; i < kUnroll; ++i) {
        const uint64_t at = first + i * kThreads;
        if (at < vectors) {
            held[i] = values[at];
        }
    }
#pragma unroll
    for (int i = 0; i < kUnroll; ++i) {
        const uint64_t at = first + i * kThreads;
        if (at < vectors) {
            const uint4 v = held[i];
            values[at] = make_uint4(scaled(v.x, scale, offset), scaled(v.y, scale, offset), scaled(v.z, scale, offset),
                                    scaled(v.w, scale, offset));
        }
    }
}

// Vectors are numbered in the order of the target, so that writes are whole; reads are runs of `columns`.
__global__ void __launch_bounds__(kThreads)
    relayout_kernel(const uint4 *__restrict__ source, uint4 *__restrict__ target, uint32_t rows, uint32_t parts,
                    uint32_t columns, uint32_t vectors) {
    const uint64_t first = blockIdx.x * kBlockVectors + threadIdx.x;
    uint4 held[kUnroll];
#pragma unroll
    for (int i = 0; i < kUnroll; ++i) {
        const uint64_t at = first + i * kThreads;
        if (at < vectors) {
            const uint32_t line = static_cast<uint32_t>(at) / columns;
            const uint32_t column = static_cast<uint32_t>(at) - line * columns;
            const uint32_t part = line / rows;
            const uint32_t row = line - part * rows;
            held[i] = source[(static_cast<uint64_t>(row) * parts + part) * columns + column];
        }
    }
#pragma unroll
    for (int i = 0; i < kUnroll; ++i) {
        const uint64_t at = first + i * kThreads;
        if (at < vectors) {
            target[at] = held[i];
        }
    }
}

unsigned blocks_for(uint64_t vectors) { return static_cast<unsigned>((vectors + kBlockVectors - 1) / kBlockVectors); }

}  // namespace

int offsim_load_layers() {
    OFFSIM_TRY_OWN(offsim_load(elementwise_kernel));
    return offsim_load(relayout_kernel);
}

// y = scale * y + offset in place on bf16 values of `bytes` bytes (a multiple of 16), which moves 2 * bytes.
extern "C" int offsim_elementwise(void *values, uint64_t bytes, float scale, float offset, void *stream) {
    const uint64_t vectors = bytes / 16;
    if (!offsim_aligned(values) || bytes % 16 != 0 || vectors == 0 || vectors / kBlockVectors >= INT32_MAX) {
        return offsim_refused();
    }
    elementwise_kernel<<<blocks_for(vectors), kThreads, 0, offsim_stream(stream)>>>(static_cast<uint4 *>(values), scale,
                                                                                    offset, vectors);
    return offsim_launched();
}

// (rows, parts, columns) -> (parts, rows, columns) on bf16; columns is a multiple of 8 and the array below 64 GiB.
// Called with rows and parts exchanged it undoes itself. Moves twice the bytes of the array.
extern "C" int offsim_relayout(void *source, void *target, uint64_t rows, uint64_t parts, uint64_t columns,
                               void *stream) {
    const bool aligned = offsim_aligned(source) && offsim_aligned(target) && source != target;
    const bool some = rows > 0 && parts > 0 && columns > 0 && columns % 8 == 0;
    const double vectors = static_cast<double>(rows) * static_cast<double>(parts) * static_cast<double>(columns) / 8;
    if (!aligned || !some || vectors > UINT32_MAX) {
        return offsim_refused();
    }
    const uint32_t count = static_cast<uint32_t>(rows * parts * (columns / 8));
    relayout_kernel<<<blocks_for(count), kThreads, 0, offsim_stream(stream)>>>(
        static_cast<const uint4 *>(source), static_cast<uint4 *>(target), static_cast<uint32_t>(rows),
        static_cast<uint32_t>(parts), static_cast<uint32_t>(columns / 8), count);
    return offsim_launched();
}
