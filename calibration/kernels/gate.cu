// A gate that holds streams until the host opens it, and a time stamp in stream order.
//
// A gate is one pinned line with the number of the round opened last. A gate kernel waits for the round after the one
// that was open when it was launched, so one release lets all streams go and the gate is closed again for later launches.

#include "common.cuh"

namespace {

struct alignas(128) Gate {
    volatile uint32_t opened;     // the round released last; written by the host
    volatile uint32_t timed_out;  // the latest round in which a kernel gave up; written by the device
};

__global__ void gate_kernel(Gate *gate, uint32_t round, long long cycles) {
    const long long start = clock64();
    while (static_cast<int32_t>(gate->opened - round) < 0) {
        if (clock64() - start > cycles) {
            gate->timed_out = round;
            __threadfence_system();
            return;
        }
    }
}

__global__ void stamp_kernel(uint64_t *slot) {
    *slot = offsim_globaltimer();
    __threadfence_system();
}

int clock_cycles(double seconds, long long *cycles) {
    int device = 0;
    int kilohertz = 0;
    OFFSIM_TRY(cudaGetDevice(&device));
    OFFSIM_TRY(cudaDeviceGetAttribute(&kilohertz, cudaDevAttrClockRate, device));
    *cycles = static_cast<long long>(seconds * 1e3 * kilohertz);
    return 0;
}

void open(Gate *gate) { __atomic_store_n(const_cast<uint32_t *>(&gate->opened), gate->opened + 1, __ATOMIC_RELEASE); }

}  // namespace

int offsim_load_gate() {
    OFFSIM_TRY_OWN(offsim_load(gate_kernel));
    return offsim_load(stamp_kernel);
}

// A gate that kernels of every device can wait at.
extern "C" int offsim_gate_create(void **gate) {
    if (gate == nullptr) {
        return offsim_refused();
    }
    void *memory = nullptr;
    OFFSIM_TRY(cudaHostAlloc(&memory, sizeof(Gate), cudaHostAllocPortable | cudaHostAllocMapped));
    Gate *made = static_cast<Gate *>(memory);
    made->opened = 0;
    made->timed_out = 0;
    *gate = memory;
    return 0;
}

// Holds the stream until the next release, at most `timeout_s` seconds at the highest SM clock (longer at a lower one).
extern "C" int offsim_gate_launch(void *gate, double timeout_s, void *stream) {
    if (gate == nullptr || !(timeout_s > 0)) {
        return offsim_refused();
    }
    long long cycles = 0;
    void *mapped = nullptr;
    OFFSIM_TRY_OWN(clock_cycles(timeout_s, &cycles));
    OFFSIM_TRY(cudaHostGetDevicePointer(&mapped, gate, 0));
    const uint32_t round = static_cast<Gate *>(gate)->opened + 1;
    gate_kernel<<<1, 1, 0, offsim_stream(stream)>>>(static_cast<Gate *>(mapped), round, cycles);
    return offsim_launched();
}

// Lets every stream go that waits or was told to wait.
extern "C" int offsim_gate_release(void *gate) {
    if (gate == nullptr) {
        return offsim_refused();
    }
    open(static_cast<Gate *>(gate));
    return 0;
}

// 1 if a kernel of the round released last gave up before the release; to be asked once its streams are synchronised.
extern "C" int offsim_gate_timed_out(void *gate, int *timed_out) {
    if (gate == nullptr || timed_out == nullptr) {
        return offsim_refused();
    }
    const Gate *asked = static_cast<Gate *>(gate);
    *timed_out = asked->opened != 0 && asked->timed_out == asked->opened;
    return 0;
}

// Opens the gate, waits for the current device, and frees it.
extern "C" int offsim_gate_destroy(void *gate) {
    if (gate == nullptr) {
        return offsim_refused();
    }
    open(static_cast<Gate *>(gate));
    OFFSIM_TRY(cudaDeviceSynchronize());
    OFFSIM_TRY(cudaFreeHost(gate));
    return 0;
}

// Writes %globaltimer (nanoseconds) to an 8-byte slot in device or pinned memory once the stream arrives here.
extern "C" int offsim_stamp(void *slot, void *stream) {
    if (slot == nullptr || reinterpret_cast<uintptr_t>(slot) % 8 != 0) {
        return offsim_refused();
    }
    stamp_kernel<<<1, 1, 0, offsim_stream(stream)>>>(static_cast<uint64_t *>(slot));
    return offsim_launched();
}
