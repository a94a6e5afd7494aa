// SPDX-License-Identifier: Apache-2.0

package k3sup

// #include <k3sup.h>
import "C"

import (
	"encoding/json"
	"errors"
	"syscall"
)

// Code is what a function of the library returned: one of the values below, or -errno. It is an error, to be used with errors.Is.
type Code int

// What the library refuses. A newer library may know more codes.
const (
	ErrBusy               Code = C.K3SUP_E_BUSY
	ErrCancelled          Code = C.K3SUP_E_CANCELLED
	ErrCallback           Code = C.K3SUP_E_CALLBACK
	ErrTimeout            Code = C.K3SUP_E_TIMEOUT
	ErrUnsupported        Code = C.K3SUP_E_UNSUPPORTED
	ErrParse              Code = C.K3SUP_E_PARSE
	ErrInternal           Code = C.K3SUP_E_INTERNAL
	ErrRoot               Code = C.K3SUP_E_ROOT
	ErrForeignProc        Code = C.K3SUP_E_FOREIGN_PROC
	ErrUntrusted          Code = C.K3SUP_E_UNTRUSTED
	ErrEscape             Code = C.K3SUP_E_ESCAPE
	ErrStateDir           Code = C.K3SUP_E_STATE_DIR
	ErrDataDirSpace       Code = C.K3SUP_E_DATA_DIR_SPACE
	ErrDataDir            Code = C.K3SUP_E_DATA_DIR
	ErrConfig             Code = C.K3SUP_E_CONFIG
	ErrPayloadMissing     Code = C.K3SUP_E_PAYLOAD_MISSING
	ErrPayloadNotFile     Code = C.K3SUP_E_PAYLOAD_NOT_FILE
	ErrPayloadEmpty       Code = C.K3SUP_E_PAYLOAD_EMPTY
	ErrPayloadNotK3s      Code = C.K3SUP_E_PAYLOAD_NOT_K3S
	ErrPayloadArch        Code = C.K3SUP_E_PAYLOAD_ARCH
	ErrPayloadTruncated   Code = C.K3SUP_E_PAYLOAD_TRUNCATED
	ErrPayloadChanged     Code = C.K3SUP_E_PAYLOAD_CHANGED
	ErrDigestMismatch     Code = C.K3SUP_E_DIGEST_MISMATCH
	ErrSums               Code = C.K3SUP_E_SUMS
	ErrSignature          Code = C.K3SUP_E_SIGNATURE
	ErrKey                Code = C.K3SUP_E_KEY
	ErrVersionMismatch    Code = C.K3SUP_E_VERSION_MISMATCH
	ErrGzip               Code = C.K3SUP_E_GZIP
	ErrPayloadCorrupt     Code = C.K3SUP_E_PAYLOAD_CORRUPT
	ErrTargetMissing      Code = C.K3SUP_E_TARGET_MISSING
	ErrTargetDangling     Code = C.K3SUP_E_TARGET_DANGLING
	ErrTargetLoop         Code = C.K3SUP_E_TARGET_LOOP
	ErrTargetNotFile      Code = C.K3SUP_E_TARGET_NOT_FILE
	ErrTargetReadonly     Code = C.K3SUP_E_TARGET_READONLY
	ErrTargetChanged      Code = C.K3SUP_E_TARGET_CHANGED
	ErrTargetBusy         Code = C.K3SUP_E_TARGET_BUSY
	ErrTargetAmbiguous    Code = C.K3SUP_E_TARGET_AMBIGUOUS
	ErrTargetManaged      Code = C.K3SUP_E_TARGET_MANAGED
	ErrTargetPackageOwned Code = C.K3SUP_E_TARGET_PACKAGE_OWNED
	ErrTargetNoexec       Code = C.K3SUP_E_TARGET_NOEXEC
	ErrTargetImmutable    Code = C.K3SUP_E_TARGET_IMMUTABLE
	ErrTargetLinked       Code = C.K3SUP_E_TARGET_LINKED
	ErrTargetMounted      Code = C.K3SUP_E_TARGET_MOUNTED
	ErrBackupMissing      Code = C.K3SUP_E_BACKUP_MISSING
	ErrBackupDamaged      Code = C.K3SUP_E_BACKUP_DAMAGED
	ErrNoK3s              Code = C.K3SUP_E_NO_K3S
	ErrAmbiguous          Code = C.K3SUP_E_AMBIGUOUS
	ErrGone               Code = C.K3SUP_E_GONE
	ErrRefusedPid         Code = C.K3SUP_E_REFUSED_PID
	ErrNotRestarted       Code = C.K3SUP_E_NOT_RESTARTED
	ErrWrongBuild         Code = C.K3SUP_E_WRONG_BUILD
	ErrNotStable          Code = C.K3SUP_E_NOT_STABLE
	ErrRootless           Code = C.K3SUP_E_ROOTLESS
	ErrRKE2               Code = C.K3SUP_E_RKE2
	ErrNotReady           Code = C.K3SUP_E_NOT_READY
	ErrPolicyDowngrade    Code = C.K3SUP_E_POLICY_DOWNGRADE
	ErrPolicyPrerelease   Code = C.K3SUP_E_POLICY_PRERELEASE
	ErrPolicyPackaging    Code = C.K3SUP_E_POLICY_PACKAGING
	ErrPolicySkipMinor    Code = C.K3SUP_E_POLICY_SKIP_MINOR
	ErrPolicyAgentFirst   Code = C.K3SUP_E_POLICY_AGENT_FIRST
	ErrPolicyFloor        Code = C.K3SUP_E_POLICY_FLOOR
	ErrPolicyUnknown      Code = C.K3SUP_E_POLICY_UNKNOWN
	ErrPolicyBuildDate    Code = C.K3SUP_E_POLICY_BUILD_DATE
	ErrNoService          Code = C.K3SUP_E_NO_SERVICE
	ErrNotSupervised      Code = C.K3SUP_E_NOT_SUPERVISED
	ErrServiceMasked      Code = C.K3SUP_E_SERVICE_MASKED
	ErrServiceTakesUs     Code = C.K3SUP_E_SERVICE_TAKES_US
	ErrService            Code = C.K3SUP_E_SERVICE
	ErrGuard              Code = C.K3SUP_E_GUARD
	ErrConfined           Code = C.K3SUP_E_CONFINED
	ErrRunning            Code = C.K3SUP_E_RUNNING
	ErrAuthority          Code = C.K3SUP_E_AUTHORITY
	ErrBackup             Code = C.K3SUP_E_BACKUP
	ErrClock              Code = C.K3SUP_E_CLOCK
	ErrUnpack             Code = C.K3SUP_E_UNPACK
	ErrTorn               Code = C.K3SUP_E_TORN
	ErrHook               Code = C.K3SUP_E_HOOK
	ErrRolledBack         Code = C.K3SUP_E_ROLLED_BACK
	ErrFailedBefore       Code = C.K3SUP_E_FAILED_BEFORE
	ErrNotRotated         Code = C.K3SUP_E_NOT_ROTATED
)

// Error is one English sentence for the code, without a full stop.
func (c Code) Error() string { return C.GoString(C.k3sup_strerror(C.int(c))) }

// Name is "K3SUP_E_BUSY", "ENOENT", or "UNKNOWN".
func (c Code) Name() string { return C.GoString(C.k3sup_error_name(C.int(c))) }

// Error is why something failed. errors.Is finds its code, the syscall.Errno of an -errno (hence fs.ErrNotExist and the like),
// and its cause.
type Error struct {
	Verb     string // "upgrade", "node_lock"
	Code     Code
	Message  string
	Evidence json.RawMessage // nil if there is none
	Cause    error           // what a progress callback returned, or why the wait's context was done
}

func (e *Error) Error() string {
	text := "k3sup " + e.Verb + ": " + e.Message + " (" + e.Code.Name() + ")"
	if e.Cause != nil {
		text += ": " + e.Cause.Error()
	}
	return text
}

// Unwrap returns the syscall.Errno or the Code.
func (e *Error) Unwrap() error {
	if e.Code < 0 && e.Code > -4096 { // errno numbers end there (include/linux/err.h)
		return syscall.Errno(-e.Code)
	}
	return e.Code
}

// Is finds the code of an -errno, and the cause.
func (e *Error) Is(target error) bool {
	return target == error(e.Code) || e.Cause != nil && errors.Is(e.Cause, target)
}

// As finds the cause.
func (e *Error) As(target any) bool { return e.Cause != nil && errors.As(e.Cause, target) }

func newError(verb string, code C.int) *Error {
	return &Error{Verb: verb, Code: Code(code), Message: Code(code).Error()}
}
