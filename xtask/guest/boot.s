# From where the boot loader leaves the first CPU, and SIPI each other one, to `cpu_main` in long mode.

    .set TRAMPOLINE, 0x8000         # below 1 MiB, as SIPI needs it; main.rs names the same page
    .set CODE_32, 0x08
    .set DATA, 0x10
    .set CODE_64, 0x18
    .set TIMER_VECTOR, 0x20         # main.rs arms the timer with it
    .set APIC, 0xfee00000

# Multiboot 0.6.96, 3.1. With addresses in the header (flag 16) a loader need not understand the file: QEMU takes no 64-bit ELF.
    .section .head, "ax"
    .balign 4
header:
    .long 0x1badb002, 0x00010000, -(0x1badb002 + 0x00010000)
    .long header, image_start, image_end, bss_end, start

    .code32
    .globl start
start:
    mov %ebx, multiboot_information

    # The first 4 GiB at their own addresses, in pages of 2 MiB.
    mov $page_directories, %edi
    mov $0x83, %eax                 # present, writable, large
1:  mov %eax, (%edi)
    add $8, %edi
    add $0x200000, %eax
    jnc 1b
    mov $pointers, %edi
    mov $(page_directories + 3), %eax
    mov $4, %ecx
2:  mov %eax, (%edi)
    add $8, %edi
    add $0x1000, %eax
    loop 2b
    movl $(pointers + 3), page_map

    mov $timer, %eax
    mov %ax, interrupts + 16 * TIMER_VECTOR
    movw $CODE_64, interrupts + 16 * TIMER_VECTOR + 2
    movw $0x8e00, interrupts + 16 * TIMER_VECTOR + 4
    shr $16, %eax
    mov %ax, interrupts + 16 * TIMER_VECTOR + 6

    mov $trampoline, %esi
    mov $TRAMPOLINE, %edi
    mov $(trampoline_end - trampoline), %ecx
    rep movsb

# All CPUs, in flat 32-bit mode.
enter_long_mode:
    mov %cr4, %eax
    or $0x620, %eax                 # PAE, and SSE, which compiled code may use
    mov %eax, %cr4
    mov $page_map, %eax
    mov %eax, %cr3
    mov $0xc0000080, %ecx           # EFER
    rdmsr
    or $0x101, %eax                 # LME; and SCE, without which KVM does not load STAR, LSTAR and SYSCALL_MASK on Intel
    wrmsr
    mov %cr0, %eax
    and $~0x60000004, %eax          # no CD, NW and EM
    or $0x80000003, %eax            # PG, MP, PE
    mov %eax, %cr0
    lgdt segments_pointer
    ljmp $CODE_64, $long_mode

    .code64
long_mode:
    mov $DATA, %eax
    mov %eax, %ds
    mov %eax, %es
    mov %eax, %ss
    mov $(APIC + 0x20), %eax
    mov (%rax), %edi                # the local APIC's ID, which is the number of the CPU
    shr $24, %edi
    lea 1(%rdi), %esp
    shl $13, %esp                   # 8 KiB each
    add $stacks, %rsp
    mov $interrupts_pointer, %eax
    lidt (%rax)
    call cpu_main

timer:
    push %rax
    mov $(APIC + 0xb0), %eax        # end of interrupt
    movl $0, (%rax)
    pop %rax
    iretq

# Runs where it has been copied to.
    .code16
trampoline:
    cli
    xor %ax, %ax
    mov %ax, %ds
    lgdtl TRAMPOLINE + (trampoline_segments - trampoline)
    mov %cr0, %eax
    or $1, %al
    mov %eax, %cr0
    ljmpl $CODE_32, $other_start
trampoline_segments:
    .word segments_end - segments - 1
    .long segments
trampoline_end:

    .code32
other_start:
    mov $DATA, %eax
    mov %eax, %ds
    mov %eax, %es
    mov %eax, %ss
    jmp enter_long_mode

    .code64
    .section .rodata.boot, "a"
    .balign 8
segments:
    .quad 0, 0x00cf9b000000ffff, 0x00cf93000000ffff, 0x00af9b000000ffff
segments_end:
segments_pointer:
    .word segments_end - segments - 1
    .long segments
interrupts_pointer:
    .word 16 * 256 - 1
    .quad interrupts

    .section .bss.boot, "aw", @nobits
    .balign 4096
page_map:
    .skip 4096
pointers:
    .skip 4096
page_directories:
    .skip 4 * 4096
interrupts:
    .skip 16 * 256
stacks:
    .skip 8192 * 64
    .globl multiboot_information
multiboot_information:
    .skip 4
    .text
