// SPDX-License-Identifier: Apache-2.0

package inner

import (
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/k3s-io/k3s/pkg/logline"
)

// checked is one row of `certificate check`.
type checked struct {
	Filename     string
	Subject      string
	Issuer       string
	Usages       []string
	ExpiryTime   time.Time
	ResidualTime time.Duration
	Status       string
}

// check lists every certificate of every file of the services, in text on
// stderr or in another form on stdout. It succeeds whatever it finds.
func (c *certCommand) check(output string) {
	if output == "" {
		output = "text"
	}
	if output != "text" && output != "table" && output != "json" && output != "yaml" {
		logline.Fatal("invalid output format %s", output)
	}
	c.choose("checking")
	var rows []checked
	for _, s := range c.services {
		for _, p := range pathsOf(c.era, s) {
			rows = append(rows, c.rows(p)...)
		}
	}
	switch output {
	case "text":
		for _, r := range rows {
			what := fmt.Sprintf("%s: certificate %s (%s)", r.Filename, r.Subject, strings.Join(r.Usages, ","))
			at := r.ExpiryTime.Format(time.RFC3339)
			switch r.Status {
			case "OK":
				logline.Info("%s is ok, expires at %s", what, at)
			case "WARNING":
				logline.Warn("%s will expire within %d days at %s", what, c.era.RenewDays, at)
			case "EXPIRED":
				logline.Error("%s expired at %s", what, at)
			default:
				logline.Error("%s is not valid before %s", what, at)
			}
		}
	case "json":
		text, err := json.Marshal(map[string][]checked{"Certificates": rows})
		must(err)
		fmt.Println(string(text))
	case "yaml":
		fmt.Println("certificates:")
		for _, r := range rows {
			fmt.Printf("- filename: %s\n  subject: %s\n  issuer: %s\n  usages:\n", r.Filename, r.Subject, r.Issuer)
			for _, u := range r.Usages {
				fmt.Printf("  - %s\n", u)
			}
			fmt.Printf("  expirytime: %s\n  residualtime: %s\n  status: %s\n", r.ExpiryTime.Format(time.RFC3339), r.ResidualTime, r.Status)
		}
	case "table":
		const form = "%-34s   %-30s   %-22s   %-22s   %-13s   %s\n"
		fmt.Printf("\n"+form, "FILENAME", "SUBJECT", "USAGES", "EXPIRES", "RESIDUAL TIME", "STATUS")
		fmt.Printf(form, "--------", "-------", "------", "-------", "-------------", "------")
		for _, r := range rows {
			fmt.Printf(form, r.Filename, r.Subject, strings.Join(r.Usages, ","), r.ExpiryTime.Format("Jan 02, 2006 15:04 MST"),
				fmt.Sprintf("%d days", int(r.ResidualTime.Hours()/24)), r.Status)
		}
	}
}

// rows: unreadable files and keys are skipped without a word.
func (c *certCommand) rows(path string) []checked {
	data, err := os.ReadFile(filepath.Join(c.dir, path))
	if err != nil {
		return nil
	}
	var rows []checked
	now := time.Now()
	for {
		var b *pem.Block
		if b, data = pem.Decode(data); b == nil {
			return rows
		}
		cert, err := x509.ParseCertificate(b.Bytes)
		if err != nil {
			return rows
		}
		r := checked{Filename: filepath.Base(path), Subject: cert.Subject.CommonName, Issuer: cert.Issuer.CommonName,
			ExpiryTime: cert.NotAfter, ResidualTime: cert.NotAfter.Sub(now), Status: "OK"}
		switch {
		case now.Before(cert.NotBefore):
			r.Status, r.ExpiryTime = "NOT YET VALID", cert.NotBefore
		case now.After(cert.NotAfter):
			r.Status = "EXPIRED"
		case cert.NotAfter.Before(now.AddDate(0, 0, c.era.RenewDays)):
			r.Status = "WARNING"
		}
		if cert.KeyUsage&x509.KeyUsageCertSign != 0 {
			r.Usages = append(r.Usages, "CertSign")
		}
		for _, u := range cert.ExtKeyUsage {
			switch u {
			case x509.ExtKeyUsageServerAuth:
				r.Usages = append(r.Usages, "ServerAuth")
			case x509.ExtKeyUsageClientAuth:
				r.Usages = append(r.Usages, "ClientAuth")
			}
		}
		if r.Usages == nil {
			r.Usages = []string{"Unknown"}
		}
		rows = append(rows, r)
	}
}
