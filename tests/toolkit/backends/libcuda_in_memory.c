/* A stand-in for NVIDIA's driver in which device memory is host memory: enough of libcuda.so.1 to run
   the code that talks to it, with every allocation counted. Written by hand for the tests. */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int live = 0, streams = 0, contexts = 0;

static int told(const char *name, int usual) { const char *v = getenv(name); return v ? atoi(v) : usual; }

int cuInit(unsigned flags) { return told("DRIVER_STARTS_WITH", 0); }
int cuDriverGetVersion(int *v) { *v = 13000; return 0; }
int cuDeviceGetCount(int *n) { *n = 1; return 0; }
int cuDeviceGet(int *d, int i) { *d = i; return i == 0 ? 0 : 101; }
int cuDeviceGetName(char *name, int size, int d) { snprintf(name, size, "Stand-in"); return 0; }
int cuDeviceGetAttribute(int *v, int which, int d) { int c = told("GPU_CAPABILITY", 89); *v = which == 75 ? c / 10 : c % 10; return 0; }
int cuDeviceTotalMem_v2(size_t *n, int d) { *n = 1 << 30; return 0; }
int cuDevicePrimaryCtxRetain(void **c, int d) { contexts++; *c = (void *)1; return 0; }
int cuDevicePrimaryCtxRelease_v2(int d) { contexts--; return 0; }
int cuCtxSetCurrent(void *c) { return 0; }
int cuMemAlloc_v2(uint64_t *p, size_t n) {
  if (n > 1000000000) return 2;
  live++; *p = (uint64_t)malloc(n); return 0;
}
int cuMemFree_v2(uint64_t p) { live--; free((void *)p); return 0; }
int cuMemcpyHtoDAsync_v2(uint64_t to, const void *from, size_t n, void *s) { memcpy((void *)to, from, n); return 0; }
int cuMemcpyDtoHAsync_v2(void *to, uint64_t from, size_t n, void *s) { memcpy(to, (void *)from, n); return 0; }
int cuStreamCreate(void **s, unsigned f) { streams++; *s = (void *)7; return 0; }
int cuStreamSynchronize(void *s) { return 0; }
int cuStreamDestroy_v2(void *s) { streams--; return 0; }
/* an event holds the number of its own recording, so that times are known and order shows */
static int events = 0; static long recorded = 0;
int cuEventCreate(void **e, unsigned f) { events++; *e = calloc(1, sizeof(long)); return 0; }
int cuEventRecord(void *e, void *s) { *(long *)e = ++recorded; return 0; }
int cuEventElapsedTime(float *ms, void *a, void *b) { *ms = *(long *)b - *(long *)a; return 0; }
int cuEventDestroy_v2(void *e) { events--; free(e); return 0; }
int cuGetErrorString(int e, const char **t) { *t = e == 2 ? "out of memory" : e == 802 ? "system not yet initialized" : "invalid device ordinal"; return 0; }
int left_over(void) { return events * 1000 + live * 100 + streams * 10 + contexts; }
