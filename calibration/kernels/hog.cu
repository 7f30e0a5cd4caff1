// Matrix instructions for a given time on a given number of thread blocks: a matrix multiply that touches no memory.
//
// Each of a block's eight warps keeps eight independent chains of bf16 m16n8k16 products. The operands are random, since
// zeros draw less power. mma.sync reaches part of the matrix rate of GPUs that have newer instructions.

#include "common.cuh"

namespace {

constexpr int kThreads = 256;
constexpr int kChains = 8;
constexpr int kProducts = 32;  // of each chain between two looks at the clock

__device__ uint32_t scrambled(uint32_t x) {
    x = (x ^ (x >> 16)) * 0x7feb352dU;
    x = (x ^ (x >> 15)) * 0x846ca68bU;
    return x ^ (x >> 16);
}

// Two bf16 of random sign and mantissa with magnitudes from 0.5 to 1.
__device__ uint32_t random_pair(uint32_t seed) { return (scrambled(seed) & 0x807f807fU) | 0x3f003f00U; }

__device__ void product(float (&sum)[4], const uint32_t (&a)[4], const uint32_t (&b)[2]) {
    asm volatile(
        "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
        : "+f"(sum[0]), "+f"(sum[1]), "+f"(sum[2]), "+f"(sum[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}

__device__ void products(float (&sums)[kChains][4], const uint32_t (&a)[4], const uint32_t (&b)[2]) {
    for (int i = 0; i < kProducts; ++i) {
#pragma unroll
        for (int chain = 0; chain < kChains; ++chain) {
            product(sums[chain], a, b);
        }
    }
}

// Read by nobody, but what no result depends on is compiled away.
__device__ float total(const float (&sums)[kChains][4]) {
    float all = 0;
#pragma unroll
    for (int chain = 0; chain < kChains; ++chain) {
        all += sums[chain][0] + sums[chain][1] + sums[chain][2] + sums[chain][3];
    }
    return all;
}

__global__ void __launch_bounds__(kThreads) hog_kernel(uint64_t nanoseconds, unsigned long long *rounds) {
    const uint64_t start = offsim_globaltimer();
    const uint32_t seed = 8 * (blockIdx.x * kThreads + threadIdx.x);
    const uint32_t a[4] = {random_pair(seed), random_pair(seed + 1), random_pair(seed + 2), random_pair(seed + 3)};
    const uint32_t b[2] = {random_pair(seed + 4), random_pair(seed + 5)};
    float sums[kChains][4] = {};
    unsigned long long done = 0;
    do {
        products(sums, a, b);
        ++done;
    } while (offsim_globaltimer() - start < nanoseconds);
    const bool impossible = total(sums) == 1.5e38f;
    if (rounds != nullptr && (threadIdx.x % 32 == 0 || impossible)) {
        atomicAdd(rounds, done);
    }
}

}  // namespace

int offsim_load_hog() { return offsim_load(hog_kernel); }

// Keeps `blocks` thread blocks busy for `nanoseconds` from the start of each. `rounds`, if given, is a counter of 8 bytes
// in device memory that grows by the rounds of all warps; a round is 256 products of 4,096 floating-point operations.
extern "C" int offsim_hog(int blocks, uint64_t nanoseconds, void *rounds, void *stream) {
    if (blocks < 1 || reinterpret_cast<uintptr_t>(rounds) % 8 != 0) {
        return offsim_refused();
    }
    hog_kernel<<<blocks, kThreads, 0, offsim_stream(stream)>>>(nanoseconds, static_cast<unsigned long long *>(rounds));
    return offsim_launched();
}
