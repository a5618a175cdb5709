/* A library to be preloaded behind ours: all functions of libc by stubs that record who calls them.

   The stubs come from the test (one line of assembly for each function that this machine's libc exports):
       NAME:  movl $INDEX, %r11d;  jmp recorder_enter
   They change no register and no stack, so that setjmp, vfork, dlsym(RTLD_NEXT) and variadic functions work through
   them. A call is recorded if recording is on and the return address is in one of the libraries under test. Recording
   uses no libc and no thread-local storage: it works where a thread has no thread pointer yet. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>

#define HIDDEN __attribute__((visibility("hidden")))

/* From the test: offsets in libc (the lowest bit: an indirect function), names one after the other, and a variable of
   libc with its offset, which says where libc is. */
extern const uint32_t recorder_offsets[] HIDDEN;
extern const char recorder_names[] HIDDEN;
extern const uint32_t recorder_count HIDDEN;
extern char *const recorder_anchor_at HIDDEN;
extern const uint32_t recorder_anchor_offset HIDDEN;

enum { ROOM = 4096, RANGES = 32 };
HIDDEN uintptr_t recorder_real[ROOM];
HIDDEN uint32_t recorder_calls[ROOM];
HIDDEN uintptr_t recorder_callers[ROOM];
HIDDEN uintptr_t recorder_ranges[2 * RANGES + 2];
HIDDEN uint32_t recorder_on;
static char range_names[RANGES][64];

HIDDEN uintptr_t recorder_resolve(uint32_t index) {
  char *libc = recorder_anchor_at - recorder_anchor_offset;
  uint32_t offset = recorder_offsets[index];
  /* Functions are aligned: the lowest bit of an offset is free. */
  uintptr_t address = (uintptr_t)libc + (offset & ~1u);
  if (offset & 1) address = ((uintptr_t(*)(void))address)();
  recorder_real[index] = address;
  return address;
}

__asm__(
    ".text\n.globl recorder_enter\n.hidden recorder_enter\nrecorder_enter:\n"
    "  pushq %rax\n"
    "  cmpl $0, recorder_on(%rip)\n  je 3f\n"
    "  pushq %rdx\n  pushq %rcx\n"
    "  movq 24(%rsp), %rax\n  leaq recorder_ranges(%rip), %rdx\n"
    "1: movq (%rdx), %rcx\n  testq %rcx, %rcx\n  jz 2f\n"
    "  cmpq %rcx, %rax\n  jb 4f\n  cmpq 8(%rdx), %rax\n  jb 5f\n"
    "4: addq $16, %rdx\n  jmp 1b\n"
    "5: leaq recorder_calls(%rip), %rdx\n  lock incl (%rdx,%r11,4)\n"
    "  leaq recorder_callers(%rip), %rdx\n  movq %rax, (%rdx,%r11,8)\n"
    "2: popq %rcx\n  popq %rdx\n"
    "3: leaq recorder_real(%rip), %rax\n  movq (%rax,%r11,8), %rax\n  testq %rax, %rax\n  jz 6f\n"
    "  movq %rax, %r11\n  popq %rax\n  jmp *%r11\n"
    /* The first call of a function: all argument registers are kept. */
    "6: popq %rax\n  pushq %rbp\n  movq %rsp, %rbp\n"
    "  pushq %rdi\n  pushq %rsi\n  pushq %rdx\n  pushq %rcx\n  pushq %r8\n  pushq %r9\n  pushq %rax\n  pushq %r10\n"
    "  subq $128, %rsp\n  andq $-16, %rsp\n"
    "  movups %xmm0, (%rsp)\n  movups %xmm1, 16(%rsp)\n  movups %xmm2, 32(%rsp)\n  movups %xmm3, 48(%rsp)\n"
    "  movups %xmm4, 64(%rsp)\n  movups %xmm5, 80(%rsp)\n  movups %xmm6, 96(%rsp)\n  movups %xmm7, 112(%rsp)\n"
    "  movl %r11d, %edi\n  call recorder_resolve\n  movq %rax, %r11\n"
    "  movups (%rsp), %xmm0\n  movups 16(%rsp), %xmm1\n  movups 32(%rsp), %xmm2\n  movups 48(%rsp), %xmm3\n"
    "  movups 64(%rsp), %xmm4\n  movups 80(%rsp), %xmm5\n  movups 96(%rsp), %xmm6\n  movups 112(%rsp), %xmm7\n"
    "  leaq -64(%rbp), %rsp\n"
    "  popq %r10\n  popq %rax\n  popq %r9\n  popq %r8\n  popq %rcx\n  popq %rdx\n  popq %rsi\n  popq %rdi\n  popq %rbp\n"
    "  jmp *%r11\n");

/* Starts recording; returns how many libraries are watched: those whose file name begins with libdmtcp. */
int recorder_begin(void) {
  FILE *maps = fopen("/proc/self/maps", "re");
  char line[600], file[256];
  int count = 0;
  while (maps && fgets(line, sizeof line, maps) && count < RANGES) {
    unsigned long start, end;
    char prot[8];
    if (sscanf(line, "%lx-%lx %7s %*s %*s %*s %255s", &start, &end, prot, file) != 4) continue;
    const char *name = strrchr(file, '/');
    if (prot[2] != 'x' || !name || strncmp(name, "/libdmtcp", 9)) continue;
    recorder_ranges[2 * count] = start;
    recorder_ranges[2 * count + 1] = end;
    snprintf(range_names[count++], sizeof range_names[0], "%s", name + 1);
  }
  if (maps) fclose(maps);
  __atomic_store_n(&recorder_on, 1, __ATOMIC_SEQ_CST);
  return count;
}

void recorder_end(void) { __atomic_store_n(&recorder_on, 0, __ATOMIC_SEQ_CST); }

/* Describes one call that was recorded and forgets it; 0: there is none. */
int recorder_take(char *into, size_t room) {
  const char *name = recorder_names;
  for (uint32_t i = 0; i < recorder_count; name += strlen(name) + 1, i++) {
    uint32_t calls = __atomic_exchange_n(&recorder_calls[i], 0, __ATOMIC_SEQ_CST);
    if (!calls) continue;
    uintptr_t caller = recorder_callers[i];
    int range = 0;
    while (caller < recorder_ranges[2 * range] || caller >= recorder_ranges[2 * range + 1]) range++;
    snprintf(into, room, "%s calls %s (%u times, last from text+0x%lx)", range_names[range], name, calls,
             (unsigned long)(caller - recorder_ranges[2 * range]));
    return 1;
  }
  return 0;
}
