package setup

import "testing"

// Where there is no plug-in to download, the message says for what there is one.
func TestOpenVINOPlatform(t *testing.T) {
	linuxOnly(t)
	m := newMachine(t, 1000)
	m.tool("uname", `case $1 in -m) echo aarch64 ;; *) echo Linux ;; esac`)
	want := "setup.sh --openvino: OpenVINO's plug-in is for Linux x86-64, this is Linux aarch64\n"
	if out, errs, code := m.run("./openvino.sh"); out != "" || errs != want || code != 1 {
		t.Errorf("exit %d: %s%s", code, out, errs)
	}
}
