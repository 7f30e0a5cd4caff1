// What every kernel file shares: the error contract of the C interface and timing with events.
//
// Every interface function returns a CUDA error code as an int, 0 for success, and works on the current device.

#pragma once

#include <cstdint>
#include <cuda_runtime.h>
#include <vector>

// The code of a failed call. The runtime also keeps it as its last error, which the next launch would report as its
// own, so it is taken back.
inline int offsim_failed(cudaError_t error) {
    (void)cudaGetLastError();
    return static_cast<int>(error);
}

#define OFFSIM_TRY(call)                                     \
    do {                                                     \
        const cudaError_t offsim_error = (call);             \
        if (offsim_error != cudaSuccess) {                   \
            return offsim_failed(offsim_error);              \
        }                                                    \
    } while (0)

// As OFFSIM_TRY, for functions of this library.
#define OFFSIM_TRY_OWN(call)                                 \
    do {                                                     \
        const int offsim_code = (call);                      \
        if (offsim_code != 0) {                              \
            return offsim_code;                              \
        }                                                    \
    } while (0)

inline int offsim_launched() { return static_cast<int>(cudaGetLastError()); }

inline int offsim_refused() { return static_cast<int>(cudaErrorInvalidValue); }

inline bool offsim_aligned(const void *pointer) {
    return pointer != nullptr && reinterpret_cast<uintptr_t>(pointer) % 16 == 0;
}

inline cudaStream_t offsim_stream(void *stream) { return static_cast<cudaStream_t>(stream); }

__device__ inline uint64_t offsim_globaltimer() {
    uint64_t nanoseconds;
    asm volatile("mov.u64 %0, %%globaltimer;" : "=l"(nanoseconds));
    return nanoseconds;
}

// Loads a kernel on the current device, which otherwise happens at its first launch and may wait for running kernels,
// a closed gate among them. Fails where the library holds no code for the device.
template <typename Kernel>
int offsim_load(Kernel *kernel) {
    cudaFuncAttributes attributes;
    OFFSIM_TRY(cudaFuncGetAttributes(&attributes, reinterpret_cast<const void *>(kernel)));
    return 0;
}

int offsim_load_gate();
int offsim_load_triad();
int offsim_load_host_access();
int offsim_load_hog();
int offsim_load_layers();

template <typename Launch>
int offsim_record(const Launch &launch, std::vector<cudaEvent_t> &events, cudaStream_t stream) {
    for (cudaEvent_t &event : events) {
        OFFSIM_TRY(cudaEventCreate(&event));
    }
    OFFSIM_TRY_OWN(launch());  // not timed: the first timed launch follows a running kernel as all others do
    OFFSIM_TRY(cudaEventRecord(events.front(), stream));
    for (size_t i = 1; i < events.size(); ++i) {
        OFFSIM_TRY_OWN(launch());
        OFFSIM_TRY(cudaEventRecord(events[i], stream));
    }
    OFFSIM_TRY(cudaEventSynchronize(events.back()));
    return 0;
}

inline int offsim_elapsed(const std::vector<cudaEvent_t> &events, float *milliseconds) {
    for (size_t i = 1; i < events.size(); ++i) {
        OFFSIM_TRY(cudaEventElapsedTime(&milliseconds[i - 1], events[i - 1], events[i]));
    }
    return 0;
}

// Runs `launch` once and then `iterations` times back to back; milliseconds[i] is the time of the i-th by events.
template <typename Launch>
int offsim_timed(const Launch &launch, int iterations, float *milliseconds, cudaStream_t stream) {
    if (iterations < 1 || milliseconds == nullptr) {
        return offsim_refused();
    }
    std::vector<cudaEvent_t> events(static_cast<size_t>(iterations) + 1, nullptr);
    int code = offsim_record(launch, events, stream);
    if (code == 0) {
        code = offsim_elapsed(events, milliseconds);
    }
    for (cudaEvent_t event : events) {
        const cudaError_t error = event == nullptr ? cudaSuccess : cudaEventDestroy(event);
        if (error != cudaSuccess && code == 0) {
            code = offsim_failed(error);
        }
    }
    return code;
}
