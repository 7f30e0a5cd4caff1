// Errors in words, the current device, and loading every kernel before a gate closes.

#include "common.cuh"

extern "C" const char *offsim_error_string(int code) { return cudaGetErrorString(static_cast<cudaError_t>(code)); }

extern "C" int offsim_set_device(int device) {
    OFFSIM_TRY(cudaSetDevice(device));
    return 0;
}

extern "C" int offsim_prepare() {
    OFFSIM_TRY_OWN(offsim_load_gate());
    OFFSIM_TRY_OWN(offsim_load_triad());
    OFFSIM_TRY_OWN(offsim_load_host_access());
    OFFSIM_TRY_OWN(offsim_load_hog());
    return offsim_load_layers();
}
