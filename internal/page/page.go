// Package page has the style and the charts of self-contained HTML pages. Charts are inline SVG.
package page

import (
	"bytes"
	_ "embed"
	"html/template"
	"image/color"
	"strconv"
	"strings"

	"gonum.org/v1/plot"
	"gonum.org/v1/plot/plotter"
	"gonum.org/v1/plot/vg"
	"gonum.org/v1/plot/vg/draw"
	"gonum.org/v1/plot/vg/vgsvg"
)

// Style is the content of a page's style element.
//
//go:embed style.css
var Style template.CSS

// Colours of curves.
var (
	Blue   = color.NRGBA{0x1f, 0x5f, 0xbf, 0xff}
	Orange = color.NRGBA{0xd9, 0x6a, 0x0b, 0xff}
	Pale   = color.NRGBA{0x1f, 0x5f, 0xbf, 0x50}
)

// Chart is a picture with a title.
type Chart struct {
	Title string
	SVG   template.HTML
}

// Curve is one line of a chart.
type Curve struct {
	Name   string // in the legend; "" means no entry
	At     plotter.XYs
	Color  color.Color
	Dotted bool // draw a mark at each point
}

// Curves draws lines into one chart. axis is the label of the x axis.
func Curves(title, axis string, curves ...Curve) (Chart, error) {
	return chart(title, axis, func(p *plot.Plot) error {
		for _, c := range curves {
			if err := addCurve(p, c); err != nil {
				return err
			}
		}
		return nil
	})
}

func addCurve(p *plot.Plot, c Curve) error {
	line, err := plotter.NewLine(c.At)
	if err != nil {
		return err
	}
	line.Color, line.Width = c.Color, vg.Points(1.5)
	p.Add(line)
	thumbs := []plot.Thumbnailer{line}
	if c.Dotted || len(c.At) == 1 {
		marks, err := plotter.NewScatter(c.At)
		if err != nil {
			return err
		}
		marks.GlyphStyle = draw.GlyphStyle{Color: c.Color, Radius: vg.Points(2.5), Shape: draw.CircleGlyph{}}
		p.Add(marks)
		thumbs = append(thumbs, marks)
	}
	if c.Name != "" {
		p.Legend.Add(c.Name, thumbs...)
	}
	return nil
}

// Histogram draws a histogram of values with this number of bins.
func Histogram(title, axis string, values []float64, bins int) (Chart, error) {
	return chart(title, axis, func(p *plot.Plot) error {
		h, err := plotter.NewHist(plotter.Values(values), bins)
		if err != nil {
			return err
		}
		h.FillColor, h.LineStyle.Width = Pale, vg.Points(0.5)
		p.Add(h)
		p.Y.Min = 0
		return nil
	})
}

// chart renders a plot as SVG that fits into a page.
func chart(title, axis string, add func(*plot.Plot) error) (Chart, error) {
	p := plot.New()
	p.X.Label.Text = axis
	p.X.Tick.Marker, p.Y.Tick.Marker = ticks{}, ticks{}
	p.Legend.Top, p.Legend.Padding = true, vg.Points(3)
	p.Legend.Left, p.Legend.XOffs = true, vg.Points(330) // on the right, with names that may run wider than here
	grid := plotter.NewGrid()
	grid.Vertical.Width = 0
	grid.Horizontal.Color = color.Gray{0xe0}
	p.Add(grid)
	if err := add(p); err != nil {
		return Chart{}, err
	}
	const width, height = 460, 230
	canvas := vgsvg.New(vg.Points(width), vg.Points(height))
	const margin = 14 // for the last tick's label
	p.Draw(draw.Crop(draw.New(canvas), 0, -vg.Points(margin), 0, 0))
	var b bytes.Buffer
	if _, err := canvas.WriteTo(&b); err != nil {
		return Chart{}, err
	}
	svg := b.String() // an XML declaration precedes the element
	return Chart{title, template.HTML(svg[strings.Index(svg, "<svg"):])}, nil
}

// ticks are gonum's default ticks with at most 4 digits.
type ticks struct{}

func (ticks) Ticks(low, high float64) []plot.Tick {
	all := plot.DefaultTicks{}.Ticks(low, high)
	for i, t := range all {
		if t.Label != "" {
			all[i].Label = strconv.FormatFloat(t.Value, 'g', 4, 64)
		}
	}
	return all
}
