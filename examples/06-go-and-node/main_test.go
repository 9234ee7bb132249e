package main

import "testing"

func TestPage(t *testing.T) {
	if page == "" {
		t.Error("the page is empty")
	}
}
