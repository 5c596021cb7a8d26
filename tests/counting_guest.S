# A guest of one sector for tests, started by the BIOS in a fraction of a second.
#
# On its first serial port it says how often its disk has booted, then counts the seconds, reading its disk in each, and
# repeats what is typed. It powers off when asked by ACPI on a machine of type pc. The number of boots stands in the
# disk's second sector.

        .code16
        .globl  _start
        .set    COM1, 0x3f8
        .set    BOOTS, 0x8000           # where the second sector is read to
        .set    CLOCK, 0x46c            # of the BIOS: 18.2 a second
        .set    POWER, 0x600            # PIIX4's: status, enabled events, control

_start: xorw    %ax, %ax
        movw    %ax, %ds
        movw    %ax, %es
        movw    %ax, %ss
        movw    $0x7c00, %sp
        sti
        cld

        movw    $BOOTS, %bx
        movw    $0x0201, %ax            # read one sector
        call    disk
        incl    BOOTS
        movw    $0x0301, %ax            # write it
        call    disk
        movw    $boot, %si
        call    say
        movl    BOOTS, %eax
        call    say_number
        movw    $disks, %si
        call    say

        movw    $POWER + 2, %dx
        movw    $0x100, %ax             # its button counts
        outw    %ax, %dx
        xorl    %ebp, %ebp              # seconds
second: movl    CLOCK, %ebx
wait:   hlt
        movw    $POWER, %dx
        inw     %dx, %ax
        testb   $1, %ah                 # it was pressed
        jz      1f
        movw    $POWER + 4, %dx
        movw    $0x2000, %ax
        outw    %ax, %dx
1:      movw    $COM1 + 5, %dx
        inb     %dx, %al
        testb   $1, %al                 # something was typed
        jz      1f
        movw    $COM1, %dx
        inb     %dx, %al
        call    put
        jmp     wait
1:      movl    CLOCK, %eax
        subl    %ebx, %eax
        cmpl    $18, %eax
        jb      wait
        incl    %ebp
        movw    $BOOTS, %bx
        movw    $0x0201, %ax
        call    disk
        jnc     1f
        movw    $failed, %si
        call    say
1:      movw    $tick, %si
        call    say
        movl    %ebp, %eax
        call    say_number
        movw    $end, %si
        call    say
        jmp     second

disk:   movw    $2, %cx                 # cylinder 0, sector 2
        movw    $0x80, %dx              # of the disk that it runs from
        int     $0x13
        ret

say:    lodsb
        testb   %al, %al
        jz      1f
        call    put
        jmp     say
1:      ret

say_number:                             # of eax, in decimal
        xorl    %edx, %edx
        movl    $10, %ecx
        divl    %ecx
        pushw   %dx
        testl   %eax, %eax
        jz      1f
        call    say_number
1:      popw    %ax
        addb    $'0', %al

put:    pushw   %ax
        movw    $COM1 + 5, %dx
1:      inb     %dx, %al
        testb   $0x20, %al              # there is room for a byte
        jz      1b
        popw    %ax
        movw    $COM1, %dx
        outb    %al, %dx
        ret

boot:   .asciz  "boot "
disks:  .asciz  " of this disk\r\n"
tick:   .asciz  "tick "
failed: .asciz  "disk error "
end:    .asciz  "\r\n"

        .org    510
        .word   0xaa55
